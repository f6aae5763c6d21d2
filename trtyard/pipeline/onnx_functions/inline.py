"""A model without custom ops: standard nodes stand where the custom ones stood."""

from typing import List

import onnx
from onnx import helper

from trtyard.pipeline.onnx_functions import opset11, opset_of
from trtyard.pipeline.onnx_functions.body import Attributes, Body
from trtyard.pipeline.onnx_functions.roi_align import roi_align
from trtyard.pipeline.ops.contracts import DOMAIN, PADDED_NMS

# From 13 on Squeeze, Unsqueeze and ReduceSum take their axes as inputs.
OPSETS = (opset11.OPSET, 12)


def in_standard_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` in which no custom op is left.

    Args:
        model: of one of ``OPSETS``, with float32 features at MaskRcnnROIAlign; left as it is.
    """
    standalone = onnx.ModelProto()
    standalone.CopyFrom(model)
    nodes: List[onnx.NodeProto] = []
    for index, node in enumerate(model.graph.node):
        nodes += _body_of(node, index, opset_of(model)) if node.domain == DOMAIN else [node]
    del standalone.graph.node[:]
    standalone.graph.node.extend(nodes)
    others = [each for each in model.opset_import if each.domain != DOMAIN]
    del standalone.opset_import[:]
    standalone.opset_import.extend(others)
    return standalone


def _body_of(node: onnx.NodeProto, index: int, opset: int) -> List[onnx.NodeProto]:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    body = Body(f"{DOMAIN}_{node.op_type}_{index}_", opset)
    outputs = [name or body.new_name("unused") for name in node.output]
    if node.op_type == PADDED_NMS.op_type:
        opset11.padded_nms(body, list(node.input), outputs, attributes)
    else:
        pooled = roi_align(body, list(node.input), Attributes(attributes), like_features=False)
        body.add("Identity", pooled, output=outputs[0])
    return body.nodes
