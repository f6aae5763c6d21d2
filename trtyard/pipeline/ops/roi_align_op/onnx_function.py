"""MaskRcnnROIAlign in standard ONNX ops: as a function, and as nodes in its place."""

from typing import Sequence

import onnx

from trtyard.pipeline.ops.onnx_body import Attributes, Body, function_of_nodes
from trtyard.pipeline.ops.roi_align_op.contract import OP
from trtyard.pipeline.ops.roi_align_op.onnx_nodes import roi_align

# The first opset whose RoiAlign supports half pixels.
MINIMUM_OPSET = 16


def function(opset: int) -> "onnx.FunctionProto":
    """Return the function for ``MINIMUM_OPSET`` or newer. Its result has the features' type."""
    return function_of_nodes(OP, opset, _add_nodes_of_any_type)


def add_nodes(
    body: Body, inputs: Sequence[str], outputs: Sequence[str], attributes: Attributes
) -> None:
    """Add the nodes for float32 features."""
    pooled = roi_align(body, inputs, attributes, like_features=False)
    body.add("Identity", pooled, output=outputs[0])


def _add_nodes_of_any_type(
    body: Body, inputs: Sequence[str], outputs: Sequence[str], attributes: Attributes
) -> None:
    pooled = roi_align(body, inputs, attributes, like_features=True)
    body.add("Identity", pooled, output=outputs[0])
