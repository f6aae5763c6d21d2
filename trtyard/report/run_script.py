"""run.py: a script that runs model.onnx or model.engine without torch and trtyard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtyard.core.coco import OWN
from trtyard.core.files import write_text
from trtyard.core.known_models import FASTER_RCNN, KINDS
from trtyard.core.report import RUN_FILE, Report
from trtyard.core.short_forms import TIMM, short_form
from trtyard.core.toolchains import RTX, Toolchain, release
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.system.templating import rendered
from trtyard.system.uv import ROOT

TEMPLATES = ROOT / "templates" / "convert"
ONNX, TWIN = "model.onnx", "model.twin.onnx"
_OWN = "own"  # models without a name of trtyard's
_DETECTORS = (FASTER_RCNN, "detector")
_LINES = {"classifier": 5, "segmenter": 5, FASTER_RCNN: 20, "detector": 20}  # to print, by kind
_TENSORS_BY_NAME = (8, 5)  # the first TensorRT with the functions that the script calls
_PLUGINS_V3 = (10, 0)
# The packages give their module two names; what is installed decides which one can be imported.
_MODULES = ("tensorrt", "tensorrt_bindings")
_RTX_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")


def write_script(report: Report, folder: Path) -> None:
    """Write run.py into ``folder``, if that has the model and the report says how to run it."""
    if (folder / ONNX).is_file() and can_run(report):
        rows = {one.row: one for one in matrix_toolchains()}
        write_text(folder / RUN_FILE, script(report, rows.get(report.row)))


def can_run(report: Report) -> bool:
    """Return whether a report has what the script needs; those of older releases have not."""
    return kind_of(report) == _OWN or report.preprocess is not None


def kind_of(report: Report) -> str:
    """Return the kind of the report's model in ``known_models.KINDS``, or "own"."""
    if short_form(report.model) == TIMM:
        return "classifier"
    if any(one.numbering == OWN for one in report.detections):
        return "detector"
    return next((name for name, one in KINDS.items() if report.model in one.names), _OWN)


def script(report: Report, toolchain: Toolchain | None) -> str:
    """Return the text of run.py.

    Args:
        report: of the conversion.
        toolchain: of the report's row; None if the row is no longer in the matrix. Then the script
            runs the ONNX file only.
    """
    kind, made = kind_of(report), report.preprocess
    modules = _modules(toolchain)
    plugin_api = 3
    if toolchain is not None and toolchain.flavour != RTX:
        plugin_api = 3 if release(toolchain.tensorrt) >= _PLUGINS_V3 else 2
    facts: dict[str, Any] = {
        "kind": kind,
        "detects": kind in _DETECTORS,
        "lines": _LINES.get(kind),
        "model": _literal(report.model),
        "onnx": TWIN if TWIN in report.artifacts else ONNX,
        "inputs": list(_inputs(report)),
        "varies": list(_varying(report)),
        "modules": _literal(modules) if modules else "",
        "runtimes": _literal(["onnxruntime", "tensorrt"] if modules else ["onnxruntime"]),
        "default_runtime": "default: tensorrt with model.engine and a GPU, else onnxruntime"
        if modules
        else "the only one for this model",
        "tensorrt": "" if toolchain is None else toolchain.tensorrt,
        "needs_plugins": str(report.engine is not None and bool(report.engine.plugin_layers)),
        "plugin_api": plugin_api,
        "plugin_library": f"libtrtyard_plugins_v{plugin_api}.so",
        "picture": made is not None,
    }
    if made is not None:
        facts.update(
            fit=made.fit,
            shorter_side=made.shorter_side,
            as_torchvision=made.as_torchvision,
            resample=made.resample.upper(),
            channels=made.channels,
            divisor=made.divisor,
            mean=_literal(made.mean),
            deviation=_literal(made.deviation),
        )
    return rendered(TEMPLATES, "run.py.j2", facts)


def _modules(toolchain: Toolchain | None) -> tuple[str, ...]:
    """Return the names of TensorRT's Python module; none if the script cannot drive it."""
    if toolchain is None:
        return ()
    if toolchain.flavour == RTX:
        return _RTX_MODULES
    return _MODULES if release(toolchain.tensorrt) >= _TENSORS_BY_NAME else ()


def _inputs(report: Report) -> Iterator[tuple[str, str]]:
    """Yield name, and type and shape, of every input, as Python source.

    A dimension that varies has its usual size; the batch is 1 if its range has that.
    """
    single: set[str] = set()
    for dimension in report.dimensions:
        least, _usual, most = dimension.profiles[0]
        if least <= 1 <= most and all(place.endswith("[0]") for place in dimension.places):
            single.update(dimension.places)
    for tensor in report.inputs.tensors:
        shape = list(tensor.shape)
        if f"{tensor.name}[0]" in single:
            shape[0] = 1
        yield _literal(tensor.name), _literal((tensor.dtype, tuple(shape)))


def _varying(report: Report) -> Iterator[tuple[str, str]]:
    """Yield name and index, and smallest and largest size, of what varies, as Python source."""
    for dimension in report.dimensions:
        limits = (
            min(one[0] for one in dimension.profiles),
            max(one[2] for one in dimension.profiles),
        )
        for place in dimension.places:
            name, _, index = place[:-1].rpartition("[")
            yield _literal((name, int(index))), _literal(limits)


def _literal(value: Any) -> str:
    """Return ``value`` as Python source in ASCII, with double quotes where that is possible."""
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    text = ascii(value)
    if isinstance(value, str) and '"' not in text and "'" not in text[1:-1]:
        return f'"{text[1:-1]}"'
    return text
