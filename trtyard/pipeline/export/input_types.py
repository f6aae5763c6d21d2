"""Casts for inputs that an ONNX op takes in fewer types than the torch op.

torch indexes with int32, ONNX's GatherND and ScatterND with int64 only: onnx's own schema says so.
The custom ops take any float and any whole number in torch, and as a node what their contract says:
one type, or for boxes and scores one type for both. The plugins read only that.
"""

from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

import onnx
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_model.symptoms import inner_graphs
from trtyard.pipeline.ops.contract import DOMAIN, FLOAT32, FLOATS, INT32
from trtyard.pipeline.ops.registry import OPS

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
_NAMES = {
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.FLOAT: "float",
}
_CONTRACTS = {op.op_type: op.input_types for op in OPS}
_OF_CONTRACTS = {FLOAT32: TensorProto.FLOAT, INT32: TensorProto.INT32}
# Such an op computes in float32: other types, and two types, become float32 without a change.
_WITHOUT_FLOAT_OUTPUT = frozenset(op.op_type for op in OPS if FLOATS not in op.output_types)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

_Types = Dict[str, int]


def cast_inputs(model: onnx.ModelProto) -> None:
    """Put a Cast before every input of another type than its op takes.

    A standard op's index becomes int64, a custom op's input what its contract says. Each Cast has
    the origin of the node that it is for.
    """
    opset = max(one.version for one in model.opset_import if one.domain in _DEFAULT_DOMAINS)
    types = _types_in(model.graph, {})
    if _any_unknown(model.graph, types, opset):
        types = {**_types_in(_inferred(model).graph, {}), **types}
    _cast_in(model.graph, types, opset, frozenset())


def _cast_in(graph: onnx.GraphProto, outer: _Types, opset: int, outer_made: FrozenSet[str]) -> None:
    types = _types_in(graph, outer)
    nodes: List[onnx.NodeProto] = []
    made = set(outer_made)  # the cast of a tensor is known in this graph and inside of it
    for node in graph.node:
        for index in _narrow_inputs(node, opset):
            name = node.input[index]
            to = _type_for(node, index, opset, types)
            if to is None:
                continue
            output = f"{name}_{_NAMES[to]}"
            types[output] = to
            if output not in made:
                made.add(output)
                nodes.append(_cast(node, name, output, to))
            node.input[index] = output
        for inner in inner_graphs(node):
            _cast_in(inner, types, opset, frozenset(made))
        nodes.append(node)
    if len(nodes) > len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)


def _cast(node: onnx.NodeProto, name: str, output: str, to: int) -> onnx.NodeProto:
    cast = helper.make_node("Cast", [name], [output], name=output, to=to)
    cast.doc_string = node.doc_string
    if hasattr(cast, "metadata_props"):  # from onnx 1.16 on
        cast.metadata_props.extend(node.metadata_props)
    return cast


def _narrow_inputs(node: onnx.NodeProto, opset: int) -> Tuple[int, ...]:
    """Return which inputs of ``node`` take index types only, or the types of a contract."""
    if node.domain == DOMAIN and node.op_type in _CONTRACTS:
        kinds = _CONTRACTS[node.op_type]
        taken = (*_OF_CONTRACTS, *([FLOATS] if node.op_type in _WITHOUT_FLOAT_OUTPUT else []))
        return tuple(index for index in range(len(node.input)) if kinds[index] in taken)
    if node.domain not in _DEFAULT_DOMAINS:
        return ()
    allowed = _allowed(node.op_type, opset)
    return tuple(
        index
        for index, name in enumerate(node.input)
        if name and index < len(allowed) and allowed[index] is not None
    )


def _type_for(node: onnx.NodeProto, index: int, opset: int, types: _Types) -> Optional[int]:
    """Return the type that an input is cast to; None if it stays as it is."""
    given = types.get(node.input[index])
    if node.domain == DOMAIN:
        kinds = _CONTRACTS[node.op_type]
        if kinds[index] == FLOATS:
            alike = {types.get(name) for name, kind in zip(node.input, kinds) if kind == FLOATS}
            if given in _FLOATS and len(alike - {None}) == 1:
                return None
        to = _OF_CONTRACTS.get(kinds[index], TensorProto.FLOAT)
        return None if given in (None, to) else to
    allowed = _allowed(node.op_type, opset)[index] or frozenset()
    refused = [value for name, value in _WHOLE.items() if name not in allowed]
    return TensorProto.INT64 if given in refused else None


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
        if any(node.input[index] not in types for index in _narrow_inputs(node, opset)):
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
