"""Replace a model's custom ops by standard nodes."""

from typing import List

import onnx
from onnx import helper

from trtyard.pipeline.onnx_functions import opset_of
from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.ops.onnx_body import Attributes, Body
from trtyard.pipeline.ops.registry import OPS, part

# From 13 on Squeeze, Unsqueeze and ReduceSum take their axes as inputs.
OPSETS = (11, 12)


def in_standard_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` without custom ops.

    Args:
        model: of one of ``OPSETS``, with float32 features for MaskRcnnROIAlign; not changed.
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
    (op,) = (each for each in OPS if each.op_type == node.op_type)
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    body = Body(f"{DOMAIN}_{node.op_type}_{index}_", opset)
    outputs = [name or body.new_name("unused") for name in node.output]
    add_nodes = part(op, "onnx_function").add_nodes
    add_nodes(body, list(node.input), outputs, Attributes(op, given))
    return body.nodes
