"""What rewriting an ONNX graph needs: names, constants, order."""

import heapq
from typing import Dict, Iterable, List, Mapping, Set

import onnx
from onnx import TensorProto, helper, numpy_helper

from trtyard.pipeline.onnx_model.symptoms import inner_graphs


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node without a name, or with one that is taken, a name of its own."""
    taken: Set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{index}"
        taken.add(node.name)


def constants_as_initializers(graph: onnx.GraphProto) -> None:
    """Make initializers of the float32 Constant nodes."""
    for node in list(graph.node):
        if node.op_type != "Constant" or len(node.attribute) != 1:
            continue
        value = helper.get_attribute_value(node.attribute[0])
        if node.attribute[0].name != "value" or value.data_type != TensorProto.FLOAT:
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.node.remove(node)


def split_initializers(graph: onnx.GraphProto, apart: Iterable[str]) -> None:
    """Give the nodes named in ``apart`` copies of the float32 initializers that others use too."""
    chosen = set(apart)
    floats = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    elsewhere = {
        name for node in graph.node if node.name not in chosen for name in node.input if name
    }
    copies: Dict[str, str] = {}
    for node in graph.node:
        if node.name not in chosen:
            continue
        for index, name in enumerate(node.input):
            if name not in floats or name not in elsewhere:
                continue
            if name not in copies:
                copies[name] = f"{name}_fp32"
                tensor = graph.initializer.add()
                tensor.CopyFrom(floats[name])
                tensor.name = copies[name]
            node.input[index] = copies[name]


def producers(graph: onnx.GraphProto) -> Dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def rename_inputs(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Have the nodes read other tensors: old name to new name."""
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = names[name]


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it reads; otherwise keep the order.

    Raises:
        ValueError: the graph has a cycle.
    """
    nodes = list(graph.node)
    made_by = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{made_by[name] for name in reads(node) if name in made_by} for node in nodes]
    readers: List[List[int]] = [[] for _ in nodes]
    for index, before in enumerate(waits):
        for one in before:
            readers[one].append(index)
    left = [len(before) for before in waits]
    ready = [index for index, number in enumerate(left) if not number]
    order = []
    heapq.heapify(ready)
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ValueError("the graph has a cycle")
    kept = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(kept)


def reads(node: onnx.NodeProto) -> Set[str]:
    """Return the names that a node or a graph inside it reads; inner names may be among them."""
    names = {name for name in node.input if name}
    for graph in inner_graphs(node):
        for inner in graph.node:
            names |= reads(inner)
    return names


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove initializers and type notes of tensors that no node has."""
    outputs = {value.name for value in graph.output}
    used = {name for node in graph.node for name in reads(node)} | outputs
    made = {name for node in graph.node for name in node.output}
    for tensor in list(graph.initializer):
        if tensor.name not in used:
            graph.initializer.remove(tensor)
    for value in list(graph.value_info):
        if value.name not in made or value.name in outputs:
            graph.value_info.remove(value)


def largest_of(tensor: onnx.TensorProto) -> float:
    """Return the largest finite magnitude in a float tensor, 0 for an empty one."""
    import numpy as np

    values = np.abs(numpy_helper.to_array(tensor).astype(np.float64))
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0
