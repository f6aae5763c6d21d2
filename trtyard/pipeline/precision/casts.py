"""Removes casts to float16 and back that onnxruntime's converter leaves around fp32 parts."""

from typing import Dict, Optional, Set

import onnx
from onnx import TensorProto, helper

from trtyard.pipeline.ops.contract import DOMAIN, FLOATS
from trtyard.pipeline.ops.registry import OPS
from trtyard.pipeline.precision.graph import producers, reads, rename_inputs

# The custom ops that pool maps, with the positions of the maps. Maps and result have one type, and
# the other inputs are always float32.
_MAPS = {
    op.op_type: [index for index, of_type in enumerate(op.input_types) if of_type == FLOATS]
    for op in OPS
    if FLOATS in op.output_types
}


def remove_round_trips(graph: onnx.GraphProto, own: Set[str]) -> int:
    """Have fp32 nodes read the fp32 result of fp32 nodes; return how many casts are gone.

    The converter marks every tensor as float16. Between two nodes that stay in fp32 it then casts
    down and up again, which rounds what was to be kept.

    Args:
        graph: as the converter left it.
        own: names of the nodes that were there before; their casts are the model's own.
    """
    before = len(graph.node)
    made_by = producers(graph)
    origins: Dict[str, str] = {}
    for node in graph.node:
        if not _is_inserted(node, own, TensorProto.FLOAT):
            continue
        down = made_by.get(node.input[0])
        if down is not None and _is_inserted(down, own, TensorProto.FLOAT16):
            origins[node.output[0]] = down.input[0]
    rename_inputs(graph.node, origins)
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in origins and node.output[0] in outputs:
            # The output's name stays: the cast becomes a copy.
            node.CopyFrom(
                helper.make_node("Identity", [origins[node.output[0]]], [node.output[0]], node.name)
            )
    _remove_unread(graph, own, outputs)
    return before - len(graph.node)


def pool_in_half(graph: onnx.GraphProto, own: Set[str], apart: Set[str]) -> int:
    """Have custom ops pool float16 maps if all is float16 around them; return how many do.

    Such an op takes its rois in float32 and its maps in any type. The converter casts all of them
    to float32, and the result back.

    Args:
        graph: as the converter left it, with the custom ops in fp32.
        own: names of the nodes that were there before; their casts are the model's own.
        apart: names of the custom ops that stay in fp32.
    """
    made_by = producers(graph)
    outputs = {value.name for value in graph.output}
    types = {value.name: value.type.tensor_type for value in graph.value_info}
    pooled = 0
    for node in graph.node:
        if node.domain != DOMAIN or node.op_type not in _MAPS or node.name in apart:
            continue
        maps = _MAPS[node.op_type]
        sources = [_half_source(made_by.get(node.input[index]), own) for index in maps]
        (result,) = node.output
        readers = [each for each in graph.node if result in reads(each)]
        is_half = all(_is_inserted(each, own, TensorProto.FLOAT16) for each in readers)
        if None in sources or result in outputs or not is_half:
            continue
        for index, source in zip(maps, sources):
            node.input[index] = source
        rename_inputs(graph.node, {each.output[0]: result for each in readers})
        if result in types:
            types[result].elem_type = TensorProto.FLOAT16
        pooled += 1
    _remove_unread(graph, own, outputs)
    return pooled


def _half_source(node: Optional[onnx.NodeProto], own: Set[str]) -> Optional[str]:
    """Return the float16 tensor that an inserted cast to float32 reads."""
    return node.input[0] if node and _is_inserted(node, own, TensorProto.FLOAT) else None


def _is_inserted(node: onnx.NodeProto, own: Set[str], to: int) -> bool:
    return (
        node.op_type == "Cast"
        and node.name not in own
        and any(each.name == "to" and each.i == to for each in node.attribute)
    )


def _remove_unread(graph: onnx.GraphProto, own: Set[str], outputs: Set[str]) -> None:
    while True:
        read = outputs | {name for node in graph.node for name in reads(node)}
        unread = [
            node
            for node in graph.node
            if node.op_type == "Cast" and node.name not in own and node.output[0] not in read
        ]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)
