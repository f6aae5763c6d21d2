"""Add an op's node to the graph of the TorchScript exporter."""

from typing import Any, Sequence

from trtyard.pipeline.ops.contract import Op
from trtyard.pipeline.ops.registry import part
from trtyard.pipeline.torch_support.versions import custom_node


def typed_node(graph: Any, op: Op, arguments: Sequence[Any]) -> Sequence[Any]:
    """Add an op's node to the exporter's graph and return its outputs, with types and shapes.

    The exporter does not know such a node. Without types, every later size is dynamic.

    Args:
        graph: the exporter's.
        op: the contract.
        arguments: of the op, as in the exporter: tensors of the graph, and Python values.
    """
    made = custom_node(graph, op, arguments)
    outputs = [made] if len(op.outputs) == 1 else made
    part(op, "symbolic").set_types(arguments, outputs)
    return outputs
