"""Writes a user's ONNX file as model.onnx: with this run's shapes, and functions for custom ops."""

from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import onnx
from onnx import helper

from trtyard.core.errors import ConversionError, UsageError
from trtyard.pipeline.export.exporter import Exported
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.onnx_functions import function, minimum_opset
from trtyard.pipeline.onnx_model.given_file import (
    all_nodes,
    inputs_of,
    standard_opset,
    unknown_ops,
)
from trtyard.pipeline.onnx_model.order import in_order, is_in_order
from trtyard.pipeline.onnx_model.origin import describe
from trtyard.pipeline.onnx_model.outside_data import write_model
from trtyard.pipeline.onnx_model.symptoms import holds_float16, inner_graphs
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS, invalid_model_errors
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.registry import OP_TYPES

_FUNCTIONS_FROM_IR = 8
_MOST_NODES = 5


def take(
    model: onnx.ModelProto,
    source: Path,
    shapes: Mapping[str, Sequence[Union[int, str]]],
    file: Path,
    data: Path,
) -> Exported:
    """Write ``model`` to ``file`` and return what was written.

    Args:
        model: the content of ``source``, without external data. Changed in place: a copy of
            two gigabytes is not cheap.
        source: the user's file.
        shapes: of this run's inputs, by name. Open dimensions get these sizes, or these names.
        file: written whole or not at all.
        data: the file for weights that are not in ``source``.

    Raises:
        UsageError: the model is not valid ONNX.
    """
    fix_shapes(model, shapes)
    _sort(model.graph)
    functions = _add_functions(model)
    _add_output_shapes(model)
    write_model(model, source.parent, file, data)
    if not unknown_ops(model, DOMAIN):  # the checker refuses them, and ONNX Runtime's stage too
        _check(file, source)
    return Exported(
        len(model.graph.node),
        standard_opset(model),
        tuple(_custom_ops(model)),
        tuple(functions),
        (),
        has_float16=holds_float16(model.graph),
    )


def refuse_unknown_ops(file: Path) -> None:
    """Raise ``ConversionError`` for custom ops that ONNX Runtime has no kernel or function for."""
    nodes = unknown_ops(onnx.load(str(file), load_external_data=False), DOMAIN)
    if not nodes:
        return
    lines = [f"the file has {len(nodes)} nodes of custom ops, which ONNX Runtime cannot run:"]
    for node in nodes[:_MOST_NODES]:
        lines.append(f"{describe(node)}, domain {node.domain or 'ai.onnx'}")
    if len(nodes) > _MOST_NODES:
        lines.append(f"  and {len(nodes) - _MOST_NODES} more nodes")
    raise ConversionError(
        "\n".join(lines),
        f"write them with standard ops, or give each a function in the file (model.functions); "
        f"trtyard has plugins for the ops of domain {DOMAIN}: {', '.join(OP_TYPES)}",
    )


def _check(file: Path, source: Path) -> None:
    try:
        with output_kept_away():
            onnx.checker.check_model(str(file))
    except invalid_model_errors() as error:
        words = str(error).strip().replace(str(file), source.name)
        raise UsageError(f"{source.name} is not valid ONNX: {words}", "export it again") from error


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[Union[int, str]]]) -> None:
    """Give the open dimensions of the inputs these sizes or names, wherever they occur."""
    sizes: Dict[str, Union[int, str]] = {}
    for value in inputs_of(model):
        tensor, shape = value.type.tensor_type, shapes[value.name]
        if not tensor.HasField("shape"):
            tensor.shape.SetInParent()
            for _ in shape:
                tensor.shape.dim.add()
        for dimension, size in zip(tensor.shape.dim, shape):
            if dimension.dim_param:
                sizes[dimension.dim_param] = size
            _set(dimension, size)
    _name_sizes(model.graph, sizes)


def _set(dimension: onnx.TensorShapeProto.Dimension, size: Union[int, str]) -> None:
    if isinstance(size, str):
        dimension.dim_param = size
    else:
        dimension.dim_value = size


def _sort(graph: onnx.GraphProto) -> None:
    """Put the nodes in topological order: runtimes take any order, onnx's checker does not."""
    if is_in_order(graph):
        return
    nodes = in_order(graph.node)
    if len(nodes) == len(graph.node):  # otherwise there is a cycle, which the checker tells
        del graph.node[:]
        graph.node.extend(nodes)


def _add_output_shapes(model: onnx.ModelProto) -> None:
    """Give outputs without a shape the inferred one: onnx's checker wants it, no runtime does."""
    if all(one.type.tensor_type.HasField("shape") for one in model.graph.output):
        return
    inferred = {one.name: one for one in onnx.shape_inference.infer_shapes(model).graph.output}
    for output in model.graph.output:
        known = inferred.get(output.name)
        if known is not None and known.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.CopyFrom(known.type.tensor_type.shape)


def _name_sizes(graph: onnx.GraphProto, sizes: Mapping[str, Union[int, str]]) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                _set(dimension, sizes[dimension.dim_param])
    for node in graph.node:
        for inner in inner_graphs(node):
            _name_sizes(inner, sizes)


def _custom_ops(model: onnx.ModelProto) -> List[str]:
    """Return the types of trtyard's ops that the model uses, each once."""
    used = {node.op_type for node in all_nodes(model) if node.domain == DOMAIN}
    return [op_type for op_type in OP_TYPES if op_type in used]


def _add_functions(model: onnx.ModelProto) -> Tuple[str, ...]:
    """Add a function for each of trtyard's ops that has none; return those that have one."""
    used = _custom_ops(model)
    if not used:
        return ()
    if DOMAIN not in [one.domain for one in model.opset_import]:
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    if not HAS_FUNCTIONS:
        return ()
    opset = standard_opset(model)
    there = {one.name for one in model.functions if one.domain == DOMAIN}
    for op_type in used:
        if op_type not in there and opset >= minimum_opset(op_type):
            model.functions.append(function(op_type, opset))
            there.add(op_type)
    if there:
        model.ir_version = max(model.ir_version, _FUNCTIONS_FROM_IR)
    return tuple(op_type for op_type in used if op_type in there)
