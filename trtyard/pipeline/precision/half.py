"""fp16: model.onnx with float16 tensors, and fp32 where ``kept_nodes`` says so."""

from typing import Dict, List, NamedTuple

import onnx
from onnx import TensorProto

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_model.origin import describe
from trtyard.pipeline.onnx_model.symptoms import inner_graphs
from trtyard.pipeline.precision.casts import pool_in_half, remove_round_trips
from trtyard.pipeline.precision.graph import (
    constants_as_initializers,
    drop_unused,
    largest_of,
    name_nodes,
    sort_nodes,
    split_initializers,
)
from trtyard.pipeline.precision.kept import ASKED_FOR, kept_nodes

LARGEST_HALF = 65504.0
_MOST_NAMES = 3


class Rewritten(NamedTuple):
    """A model in a reduced precision."""

    model: onnx.ModelProto
    reduced: int  # nodes in the reduced precision
    notes: List[str]


def ops_without_kernel() -> List[str]:
    """Return the op types that onnxruntime's converter leaves in fp32 by default."""
    from onnxruntime.transformers import float16

    return list(float16.DEFAULT_OP_BLOCK_LIST)


def prepare(graph: onnx.GraphProto, is_detector: bool) -> Dict[str, str]:
    """Name the nodes and make initializers of constants; return the nodes that stay in fp32.

    See ``kept_nodes``.
    """
    name_nodes(graph)
    constants_as_initializers(graph)
    return kept_nodes(graph, is_detector, ops_without_kernel())


def to_half(model: onnx.ModelProto, kept: Dict[str, str]) -> Rewritten:
    """Return a copy of ``model`` in float16, with float32 inputs and outputs.

    Args:
        model: after ``prepare``; left as it is.
        kept: names of the nodes that stay in fp32, with reasons. Custom ops pool float16 maps
            unless the reason is ``ASKED_FOR``.

    Raises:
        ConversionError: the model has If, Loop or Scan, which the converter leaves invalid.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for node in model.graph.node:
        if next(inner_graphs(node), None) is not None:
            raise ConversionError(
                f"fp16 of a model with {node.op_type} is not supported\n{describe(node)}",
                "leave out --precision fp16",
            )
    half = onnx.ModelProto()
    half.CopyFrom(model)
    split_initializers(half.graph, kept)
    # Without the types of initializers: the converter would cast those that stay in fp32.
    drop_unused(half.graph)
    own = {node.name for node in half.graph.node}
    notes = _clamped(half.graph, kept)
    # An empty list, not None: None is the converter's own list of op types.
    half = convert_float_to_float16(
        half, keep_io_types=True, op_block_list=[], node_block_list=list(kept)
    )
    remove_round_trips(half.graph, own)
    asked = {name for name, reason in kept.items() if reason == ASKED_FOR}
    pool_in_half(half.graph, own, asked)
    sort_nodes(half.graph)
    drop_unused(half.graph)
    return Rewritten(half, len(own) - len(kept), notes)


def _clamped(graph: onnx.GraphProto, kept: Dict[str, str]) -> List[str]:
    """Return a note if weights are beyond float16's range: the converter clamps them silently."""
    used = {name for node in graph.node if node.name not in kept for name in node.input}
    beyond = [
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and tensor.name in used
        and largest_of(tensor) > LARGEST_HALF
    ]
    if not beyond:
        return []
    more = f" and {len(beyond) - _MOST_NAMES} more" if beyond[_MOST_NAMES:] else ""
    return [
        f"values beyond {LARGEST_HALF:.0f} were clamped to float16's range in "
        f"{', '.join(beyond[:_MOST_NAMES])}{more}; keep their nodes with --keep-fp32"
    ]
