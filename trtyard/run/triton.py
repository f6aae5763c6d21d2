"""``convert --export triton``: a model repository for NVIDIA's Triton Inference Server."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.files import PARTIAL_PREFIX
from trtyard.core.report import OnnxTensor, Report
from trtyard.core.toolchains import RTX, Toolchain, release
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.report.reading import read_report
from trtyard.system.terminal import show

FOLDER, CONFIG = "triton", "config.pbtxt"
_MARK = "# Written by trtyard"  # how the file starts, so that a later conversion may replace it
_ENGINE, _ONNX, _TWIN, _DATA = "model.engine", "model.onnx", "model.twin.onnx", "model.onnx.data"
_PLUGINS_V3 = (10, 0)
# By numpy's names.
_TYPES = {
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "bool": "TYPE_BOOL",
    **{f"{kind}{bits}": f"TYPE_{kind}{bits}".upper() for kind in ("int", "uint")
       for bits in (8, 16, 32, 64)},
}  # fmt: skip


class Platform(NamedTuple):
    """What Triton runs, and the files for it."""

    name: str
    files: dict[str, str]  # in the version's folder, by name: the file of the conversion
    notes: tuple[str, ...]


def lay_out(out: Path, name: str | None) -> None:
    """Write ``out/triton/NAME``, and remove what an earlier conversion left there.

    Args:
        out: the output folder of a conversion that has ended.
        name: of the model, also of its folder; None if --export was not given.

    Raises:
        ConversionError: Triton cannot serve the model.
    """
    folder = out / FOLDER
    if is_replaceable(folder):
        shutil.rmtree(folder)
    report = read_report(out) if name else None
    if name is None or report is None or report.signature is None:
        return
    toolchain = next((one for one in matrix_toolchains() if one.row == report.row), None)
    platform = platform_for(report, out, toolchain)
    text = config(report, name, platform)
    partial = out / f"{PARTIAL_PREFIX}{FOLDER}"
    version = partial / name / "1"
    version.mkdir(parents=True)
    (partial / name / CONFIG).write_text(text, encoding="utf-8")
    for target, source in platform.files.items():
        shutil.copyfile(out / source, version / target)
    partial.rename(folder)
    show(str(folder / name / CONFIG))


def refuse_to_replace(out: Path) -> None:
    """Raise ``UsageError`` if ``out/triton`` holds anything that no conversion left there."""
    folder = out / FOLDER
    if folder.exists() and not is_replaceable(folder):
        raise UsageError(
            f"{folder} has files that are not from a conversion", "move them, or use another --out"
        )


def is_replaceable(folder: Path) -> bool:
    """Return whether everything in ``folder`` is from an earlier conversion."""
    try:
        models = list(folder.iterdir())
        return all((one / CONFIG).read_bytes().startswith(_MARK.encode()) for one in models)
    except OSError:
        return False


def platform_for(report: Report, out: Path, toolchain: Toolchain | None) -> Platform:
    """Return TensorRT with an engine that Triton can load, else ONNX Runtime.

    Triton has no TensorRT for RTX.
    """
    if toolchain is None or toolchain.flavour == RTX or not (out / _ENGINE).is_file():
        source = _TWIN if (out / _TWIN).is_file() else _ONNX
        files = {"model.onnx": source}
        if (out / _DATA).is_file():
            files[_DATA] = _DATA
        return Platform("onnxruntime_onnx", files, ())
    notes = [f"The plan needs TensorRT {toolchain.tensorrt} and the GPU that it was built for."]
    if report.engine is not None and report.engine.plugin_layers:
        generation = 3 if release(toolchain.tensorrt) >= _PLUGINS_V3 else 2
        notes.append("It has plugins. Start the server with their library:")
        notes.append(
            f"--backend-config=tensorrt,plugins=/FOLDER/libtrtyard_plugins_v{generation}.so"
        )
    return Platform("tensorrt_plan", {"model.plan": _ENGINE}, tuple(notes))


def config(report: Report, name: str, platform: Platform) -> str:
    """Return the text of config.pbtxt.

    Raises:
        ConversionError: a tensor has no declared shape, or a type that Triton does not have.
    """
    if report.signature is None:
        raise ConversionError("there is no model.onnx")
    inputs, outputs = report.signature
    largest = batch_limit(report, is_plan=platform.name == "tensorrt_plan")
    lines = [f"{_MARK} from row {report.row}. See docs/deploy.md."]
    lines += [f"# {note}" for note in platform.notes]
    lines += [f"name: {_quoted(name)}", f"platform: {_quoted(platform.name)}"]
    lines.append(f"max_batch_size: {largest}")
    if largest:
        lines.append("dynamic_batching { }")
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            lines += [f"{kind} {{", *(f"  {one}" for one in _tensor(tensor, bool(largest))), "}"]
    return "\n".join(lines) + "\n"


def batch_limit(report: Report, *, is_plan: bool) -> int:
    """Return the largest batch; 0 if the first dimension of some tensor is not the batch.

    Triton also sends a batch of 1. Of an engine it uses the first optimization profile.
    """
    if report.signature is None:
        return 0
    inputs, outputs = report.signature
    firsts = {one.shape[0] if one.shape else "" for one in (*inputs, *outputs)}
    for dimension in report.dimensions:
        profiles = dimension.profiles[:1] if is_plan else dimension.profiles
        if firsts == {dimension.name} and min(one[0] for one in profiles) == 1:
            return max(one[2] for one in profiles)
    return 0


def _tensor(tensor: OnnxTensor, has_batch: bool) -> Iterator[str]:
    if tensor.shape is None:
        raise ConversionError(
            f"--export triton: model.onnx declares no shape for {tensor.name}",
            "give the model outputs whose number of dimensions is fixed, or leave out --export",
        )
    if tensor.dtype not in _TYPES:
        raise ConversionError(f"--export triton: Triton has no type {tensor.dtype} ({tensor.name})")
    yield f"name: {_quoted(tensor.name)}"
    yield f"data_type: {_TYPES[tensor.dtype]}"
    shape = tensor.shape[1:] if has_batch else tensor.shape
    yield f"dims: {_listed(shape or ['1'])}"
    if not shape:  # Triton's own tensors have one dimension at least
        yield "reshape { shape: [ ] }"


def _listed(shape: Sequence[str]) -> str:
    return f"[ {', '.join(size if size.isdecimal() else '-1' for size in shape)} ]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
