"""MultiscaleRoIAlign in standard ONNX ops: as a function, and as nodes in its place."""

from typing import Sequence

import onnx

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import OP
from trtyard.pipeline.ops.multiscale_roi_align_op.onnx_nodes import multiscale_roi_align
from trtyard.pipeline.ops.onnx_body import Attributes, Body, function_of_nodes

# The first opset whose RoiAlign supports half pixels.
MINIMUM_OPSET = 16


def function(opset: int) -> "onnx.FunctionProto":
    """Return the function for ``MINIMUM_OPSET`` or newer. Its result has the features' type."""
    return function_of_nodes(OP, opset, _add_nodes_of_any_type)


def add_nodes(
    body: Body, inputs: Sequence[str], outputs: Sequence[str], attributes: Attributes
) -> None:
    """Add the nodes for float32 features."""
    body.add("Identity", multiscale_roi_align(body, inputs, attributes), output=outputs[0])


def _add_nodes_of_any_type(
    body: Body, inputs: Sequence[str], outputs: Sequence[str], attributes: Attributes
) -> None:
    pooled = multiscale_roi_align(body, inputs, attributes)
    body.add("CastLike", pooled, inputs[0], output=outputs[0])
