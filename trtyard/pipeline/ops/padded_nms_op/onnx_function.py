"""PaddedNMS in standard ONNX ops: as a function, and as nodes in its place."""

from pathlib import Path

import onnx

from trtyard.pipeline.ops.onnx_body import function_of_text
from trtyard.pipeline.ops.padded_nms_op.onnx_nodes import add_nodes

__all__ = ["MINIMUM_OPSET", "add_nodes", "function"]

# The oldest opset that has the ops in function.onnxtxt.
MINIMUM_OPSET = 16


def function(opset: int) -> "onnx.FunctionProto":
    """Return the function for ``MINIMUM_OPSET`` or a newer opset."""
    return function_of_text(Path(__file__).with_name("function.onnxtxt"), opset)
