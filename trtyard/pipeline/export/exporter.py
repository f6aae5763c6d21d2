"""From a torch module to one self-contained ONNX file that every runtime can run."""

import re
import warnings
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import onnx
import torch

from trtyard.core.errors import ConversionError
from trtyard.core.files import write_bytes
from trtyard.core.later_opset import later_opset_log
from trtyard.core.report import ExporterWarning
from trtyard.core.shown_paths import show_in_model
from trtyard.pipeline.export.axes import Axes
from trtyard.pipeline.export.equations import use_small_letters
from trtyard.pipeline.export.input_types import cast_inputs
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.models.one_run import buffers_kept
from trtyard.pipeline.onnx_functions import custom_ops_in, functions_for
from trtyard.pipeline.onnx_model.origin import describe, nodes_in_words
from trtyard.pipeline.onnx_model.symptoms import holds_float16
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS, invalid_model_errors

# protobuf refuses messages of 2 GiB and more.
_LARGEST_FILE = 2**31 - 1
# Of the values that an export sees against the real ones.
_SCALE = 0.75
_NOT_AT_OPSET = re.compile(r"No Op registered for (\w+) with domain_version of \d+")
_TORCH = Path(torch.__file__).parent


class Exported(NamedTuple):
    """What was written."""

    nodes: int
    opset: int
    custom_ops: Tuple[str, ...]  # types of the custom ops that the file holds as nodes
    functions: Tuple[str, ...]  # those of them that it also holds in standard ops
    warnings: Tuple[ExporterWarning, ...]  # each once
    invalid: Optional[str] = None  # why it is no ONNX, where a patched torch wrote it so
    unused: Tuple[str, ...] = ()  # inputs that the exporter left out, for nothing depends on them
    has_float16: bool = False  # some of it is computed in float16


def export_onnx(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    exporter: str,
    opset: int,
    file: Path,
    may_be_invalid: bool = False,
    axes: Optional[Axes] = None,
) -> Exported:
    """Export ``module``, add the custom ops' functions, check the model and write ``file``.

    Args:
        module: in eval mode, on the CPU.
        inputs: the real inputs; only their shapes and types enter the file.
        input_names: one for each input.
        output_names: one for each output.
        exporter: "dynamo" or "torchscript"; the row says which.
        opset: of the standard ONNX domain.
        file: written whole or not at all.
        may_be_invalid: torch is patched to write what TensorRT's parser reads, valid or not.
        axes: the dimensions that vary; ``inputs`` then have their traced sizes.

    Raises:
        ConversionError: the model cannot be exported, or what came out is not valid ONNX and has
            to be.
    """
    model, warned = export_model(module, inputs, input_names, output_names, exporter, opset, axes)
    functions = functions_for(model) if HAS_FUNCTIONS else []
    if functions:
        model.functions.extend(functions)
    invalid = problem_of(model)
    if invalid is not None and not may_be_invalid:
        raise _invalid(model, invalid, opset)
    show_in_model(model)
    write_bytes(file, model.SerializeToString())
    return Exported(
        len(model.graph.node),
        opset,
        tuple(custom_ops_in(model)),
        tuple(function.name for function in functions),
        warned,
        invalid,
        tuple(sorted(set(input_names) - {value.name for value in model.graph.input})),
        holds_float16(model.graph),
    )


def export_model(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    exporter: str,
    opset: int,
    axes: Optional[Axes] = None,
) -> Tuple[onnx.ModelProto, Tuple[ExporterWarning, ...]]:
    """Return what the exporter makes of ``module``, and what it warns of; see ``export_onnx``.

    Raises:
        ConversionError: the model cannot be exported.
    """
    with output_kept_away(), buffers_kept(module), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checked = getattr(module, "checked_package", None)
        if checked is not None:
            warnings.filterwarnings(
                "ignore", category=torch.jit.TracerWarning, module=rf"{re.escape(checked)}\."
            )
        values = other_values(inputs)
        model = _export(module, values, input_names, output_names, exporter, opset, axes)
    use_small_letters(model.graph)
    cast_inputs(model)
    return model, _each_once(caught)


def _export(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    exporter: str,
    opset: int,
    axes: Optional[Axes],
) -> onnx.ModelProto:
    if exporter == "dynamo":
        from trtyard.pipeline.export.dynamo import export_dynamo

        return export_dynamo(module, inputs, input_names, output_names, opset, axes)
    if axes is None and getattr(module, "has_fixed_sizes", False):
        from trtyard.pipeline.export.fixed_sizes import export_fixed_sizes

        return export_fixed_sizes(module, inputs, input_names, output_names, opset)
    from trtyard.pipeline.export.torchscript import export_torchscript

    return export_torchscript(module, inputs, input_names, output_names, opset, axes)


def other_values(inputs: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """Return inputs like the real ones with other values.

    A value that an exporter bakes into the file as a constant then shows up as a difference when
    the real inputs are run, instead of agreeing with itself. Sums, extremes and the sign of a mean
    are other ones too, for those are what is most often taken out of a tensor. What holds no
    negative value gets none, and whole numbers stay within their range.
    """
    return [_other(value) if value.numel() else value for value in inputs]


def _other(value: torch.Tensor) -> torch.Tensor:
    if value.dtype == torch.bool:
        return value.logical_not()
    value = value.flip(-1) if value.dim() else value
    if value.is_floating_point():
        return value * (-_SCALE if bool((value < 0).any()) else _SCALE)
    whole = value.long()
    return (whole.min() + whole.max() - whole).to(value.dtype)


def problem_of(model: onnx.ModelProto) -> Optional[str]:
    """Return why ``model`` is not valid ONNX, or None.

    Raises:
        ConversionError: it is too large for a file.
    """
    # First the weights: asked for the size of a message that is too large, protobuf raises.
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    size = size if size > _LARGEST_FILE else model.ByteSize()
    if size > _LARGEST_FILE:
        raise ConversionError(
            f"the model needs {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB",
            "convert a smaller model, or split it",
        )
    try:
        with output_kept_away():  # onnx before 1.9 prints the custom ops' names
            onnx.checker.check_model(model, full_check=True)
    except invalid_model_errors() as error:
        return str(error)
    return None


def _invalid(model: onnx.ModelProto, words: str, opset: int) -> ConversionError:
    """Return the error of a model that is no valid ONNX, with its nodes."""
    lines = [f"the exported model is not valid ONNX: {words}"]
    lines += [describe(node) for node in nodes_in_words(words, model.graph.node)]
    unknown = _NOT_AT_OPSET.search(words)
    later = None if unknown is None else _first_opset_of(unknown.group(1))
    if unknown is not None and later is not None and later > opset:
        words += "\n" + later_opset_log(unknown.group(1), later, opset)
    return ConversionError("\n".join(lines), log=words)


def _first_opset_of(op: str) -> Optional[int]:
    """Return the opset of the standard domain that brought ``op``, or None."""
    found = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op and not schema.domain
    ]
    return min(found) if found else None


def _each_once(caught: Sequence[warnings.WarningMessage]) -> Tuple[ExporterWarning, ...]:
    """Return each warning once, with the line of the model's own code that it is about."""
    told = {
        f"{each.message}{_line_of(each)}": issubclass(each.category, torch.jit.TracerWarning)
        for each in caught
    }
    return tuple(ExporterWarning(text, of_tracer) for text, of_tracer in told.items())


def _line_of(warning: warnings.WarningMessage) -> str:
    """Return where in the model's own code a warning arose; empty where in torch's."""
    file = Path(warning.filename)
    if not file.is_file() or _TORCH in file.parents:
        return ""
    return f" ({warning.filename}:{warning.lineno})"
