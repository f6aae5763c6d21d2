"""An op's node in the graph of the TorchScript exporter."""

from typing import Any, Sequence

from trtyard.pipeline.ops.contract import Op
from trtyard.pipeline.ops.registry import part
from trtyard.pipeline.torch_support.versions import custom_node


def typed_node(graph: Any, op: Op, arguments: Sequence[Any]) -> Sequence[Any]:
    """Add an op's node to the exporter's graph and return its outputs, with types and shapes.

    The exporter knows nothing of such a node; without types it calls every size after it open.

    Args:
        graph: the exporter's.
        op: whose node it is.
        arguments: of the op, as the exporter has them: tensors of the graph, and plain values.
    """
    made = custom_node(graph, op, arguments)
    outputs = [made] if len(op.outputs) == 1 else made
    part(op, "symbolic").set_types(arguments, outputs)
    return outputs
