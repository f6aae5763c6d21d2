"""Casts for whole numbers that ONNX takes in fewer types than torch: indices, shapes, axes.

torch indexes with int32, ONNX's GatherND and ScatterND with int64 only. Which types an input may
have is what onnx itself says of the op.
"""

from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

import onnx
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_model.symptoms import inner_graphs

# By ONNX's names for them. A mask may be stored as uint8.
_WHOLE = {
    "tensor(bool)": TensorProto.BOOL,
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(int8)": TensorProto.INT8,
    "tensor(uint16)": TensorProto.UINT16,
    "tensor(int16)": TensorProto.INT16,
    "tensor(int32)": TensorProto.INT32,
    "tensor(int64)": TensorProto.INT64,
}
_INDEX_TYPES = frozenset(("tensor(int32)", "tensor(int64)"))
_DEFAULT_DOMAINS = ("", "ai.onnx")

_Types = Dict[str, int]


def cast_whole_numbers(model: onnx.ModelProto) -> None:
    """Put a Cast to int64 before every input that takes int64, or int32 too, and gets another type.

    Values do not change. Each Cast keeps the origin of the node that it is for.
    """
    opset = max(one.version for one in model.opset_import if one.domain in _DEFAULT_DOMAINS)
    types = _types_in(model.graph, {})
    if _any_unknown(model.graph, types, opset):
        types = {**_types_in(_inferred(model).graph, {}), **types}
    _cast_in(model.graph, types, opset, {})


def _cast_in(graph: onnx.GraphProto, outer: _Types, opset: int, made: Dict[str, str]) -> None:
    types = _types_in(graph, outer)
    nodes: List[onnx.NodeProto] = []
    made = dict(made)  # the cast of a tensor is known in this graph and inside of it
    for node in graph.node:
        for index in _index_inputs(node, opset):
            name = node.input[index]
            if types.get(name) not in _to_be_cast(node, index, opset):
                continue
            if name not in made:
                made[name] = f"{name}_int64"
                nodes.append(_cast(node, name, made[name]))
            node.input[index] = made[name]
        for inner in inner_graphs(node):
            _cast_in(inner, types, opset, made)
        nodes.append(node)
    if len(nodes) > len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)


def _cast(node: onnx.NodeProto, name: str, output: str) -> onnx.NodeProto:
    cast = helper.make_node("Cast", [name], [output], name=output, to=TensorProto.INT64)
    cast.doc_string = node.doc_string
    if hasattr(cast, "metadata_props"):  # from onnx 1.16 on
        cast.metadata_props.extend(node.metadata_props)
    return cast


def _index_inputs(node: onnx.NodeProto, opset: int) -> Tuple[int, ...]:
    """Return which inputs of ``node`` take int64, or int32 too, and nothing else."""
    if node.domain not in _DEFAULT_DOMAINS:
        return ()
    allowed = _allowed(node.op_type, opset)
    return tuple(
        index
        for index, name in enumerate(node.input)
        if name and index < len(allowed) and allowed[index] is not None
    )


def _to_be_cast(node: onnx.NodeProto, index: int, opset: int) -> List[int]:
    allowed = _allowed(node.op_type, opset)[index] or frozenset()
    return [value for name, value in _WHOLE.items() if name not in allowed]


_KNOWN: Dict[Tuple[str, int], Tuple[Optional[FrozenSet[str]], ...]] = {}


def _allowed(op_type: str, opset: int) -> Tuple[Optional[FrozenSet[str]], ...]:
    """Return for each input of an op the types that it takes where these are index types only.

    A type that another input or an output shares is left alone: a cast would change that too.
    """
    key = (op_type, opset)
    if key not in _KNOWN:
        _KNOWN[key] = tuple(_read_schema(op_type, opset))
    return _KNOWN[key]


def _read_schema(op_type: str, opset: int) -> List[Optional[FrozenSet[str]]]:
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return []
    names = [_type_name(each) for each in [*schema.inputs, *schema.outputs]]
    found: List[Optional[FrozenSet[str]]] = []
    for each in schema.inputs:
        types = frozenset(each.types)
        is_shared = _type_name(each) not in types and names.count(_type_name(each)) > 1
        takes_indices = bool(types) and types <= _INDEX_TYPES and "tensor(int64)" in types
        found.append(types if takes_indices and not is_shared else None)
    return found


def _type_name(parameter: "onnx.defs.OpSchema.FormalParameter") -> str:
    # Renamed in onnx 1.15 or so; before it is called typeStr alone.
    name = getattr(parameter, "type_str", None)
    return str(parameter.typeStr if name is None else name)


def _any_unknown(graph: onnx.GraphProto, outer: Mapping[str, int], opset: int) -> bool:
    """Tell whether the type of an input that takes indices is not written in the file."""
    types = _types_in(graph, outer)
    for node in graph.node:
        if any(node.input[index] not in types for index in _index_inputs(node, opset)):
            return True
        if any(_any_unknown(inner, types, opset) for inner in inner_graphs(node)):
            return True
    return False


def _types_in(graph: onnx.GraphProto, outer: Mapping[str, int]) -> _Types:
    """Return the element type of every tensor in ``graph`` that has one written down."""
    types = dict(outer)
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.tensor_type.elem_type:
            types[value.name] = value.type.tensor_type.elem_type
    types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                types[node.output[0]] = attribute.t.data_type
            elif node.op_type == "Cast" and attribute.name == "to":
                types[node.output[0]] = attribute.i
    return types


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception:  # what is wrong with the model, or too large, is said where it is checked
        return onnx.ModelProto()
