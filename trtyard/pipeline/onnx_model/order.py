"""The order of an ONNX graph's nodes: ONNX demands a topological one."""

from typing import Dict, List, Sequence, Set

import onnx

from trtyard.pipeline.onnx_model.symptoms import used_by


def is_in_order(graph: onnx.GraphProto) -> bool:
    """Tell whether no node reads what a later node makes."""
    later = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        if used_by(node) & later:
            return False
        later.difference_update(node.output)
    return True


def in_order(nodes: Sequence[onnx.NodeProto]) -> List[onnx.NodeProto]:
    """Return the nodes in an order in which each comes after those that it reads.

    Nodes of a cycle are left out.
    """
    makers: Dict[str, int] = {
        name: index for index, node in enumerate(nodes) for name in node.output if name
    }
    needs: List[Set[int]] = [
        {makers[name] for name in used_by(node) if name in makers} for node in nodes
    ]
    users: Dict[int, List[int]] = {}
    for index, one in enumerate(needs):
        for need in one:
            users.setdefault(need, []).append(index)
    left = [len(one) for one in needs]
    ready = [index for index, count in enumerate(left) if not count]
    order = []
    while ready:
        index = ready.pop(0)
        order.append(nodes[index])
        for user in users.get(index, ()):
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    return order
