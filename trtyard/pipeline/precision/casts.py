"""Removes the casts to float16 and back that onnxruntime's converter leaves in fp32 parts."""

from typing import Dict, Set

import onnx
from onnx import TensorProto, helper

from trtyard.pipeline.precision.graph import producers, reads, rename_inputs


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
