"""A second model for ONNX Runtime, where it cannot run the very file that TensorRT gets.

The twin computes what the file does and holds nothing but standard ops. Its opset is one that the
patches of torch's exporter leave alone.
"""

from pathlib import Path
from typing import Callable, Optional

import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.files import write_bytes
from trtyard.core.shown_paths import show_in_model
from trtyard.pipeline.export.exporter import Exported, problem_of
from trtyard.pipeline.onnx_functions.inline import OPSETS, in_standard_ops
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS

# The patches change opset 10 alone.
_OPSET = OPSETS[0]


def needs_twin(exported: Exported) -> Optional[str]:
    """Return why ONNX Runtime cannot run the exported file itself; None where it can."""
    if exported.invalid is not None:
        return "torch's patched exporter wrote it for TensorRT's parser, which is no valid ONNX"
    if exported.custom_ops == exported.functions:
        return None
    if not HAS_FUNCTIONS:
        return f"onnx {onnx.__version__} has no functions to give the custom ops' meaning in"
    return f"opset {exported.opset} is too old for the custom ops' functions"


def write_twin(
    exported: Exported, file: Path, twin: Path, export_at: Callable[[int], onnx.ModelProto]
) -> str:
    """Write the twin of ``file`` and return how it was made.

    Args:
        exported: what is known of ``file``.
        file: the exported model.
        twin: written whole or not at all.
        export_at: exports the same module again, at the opset that it is given.

    Raises:
        ConversionError: the second export fails, or the twin is not valid ONNX.
        EnvironmentLacksError: a custom op cannot be said in standard ops of the twin's opset.
    """
    if exported.invalid is None and exported.opset in OPSETS:
        model, origin = onnx.load(str(file)), f"{file.name} with its custom ops in standard ops"
    else:
        model = export_at(_OPSET)
        origin = f"a second export, at opset {_OPSET}, with the custom ops in standard ops"
    model = in_standard_ops(model)
    problem = problem_of(model)
    if problem is not None:
        raise ConversionError(f"the twin for ONNX Runtime is not valid ONNX: {problem}")
    show_in_model(model)
    write_bytes(twin, model.SerializeToString())
    return origin
