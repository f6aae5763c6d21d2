"""bf16: model.onnx with bfloat16 tensors, and a twin in float32 that ONNX Runtime can run.

onnxruntime has no converter for it: this changes the types in the result of the one for float16.
"""

import itertools
from typing import Dict, List

import onnx
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_functions import opset_of
from trtyard.pipeline.precision.graph import producers, rename_inputs, sort_nodes
from trtyard.pipeline.precision.half import Rewritten, to_half

OPSET = 22  # the first in which Conv and its like take bfloat16
_OLDEST = 18  # from here on ops only gained types and attributes with defaults, except for these
_CHANGED = ("GroupNormalization", "GridSample", "DFT")
_HALF, _BFLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16
_SUFFIX = "_in_fp32"
_ROUNDED = "_rounded"
_EXACT = "_exact"


def to_bfloat16(model: onnx.ModelProto, kept: Dict[str, str]) -> Rewritten:
    """Return a copy of ``model`` in bfloat16, with float32 inputs and outputs.

    Weights stay float32, with a Cast behind each: TensorRT's parser needs a CUDA device to read
    bfloat16 weights, and the builder folds the Casts.

    Args:
        model: see ``to_half``; nothing in it is float16.
        kept: names of the nodes that stay in fp32, with reasons.

    Raises:
        ConversionError: the model's opset is too old, or it has an op that opset 22 changed.
    """
    _check_opset(model)
    rewritten = to_half(model, kept)
    result, graph = rewritten.model, rewritten.model.graph
    imports = [result.opset_import, *(each.opset_import for each in result.functions)]
    for entry in itertools.chain(*imports):
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, OPSET)
    weights = {each.name: each for each in model.graph.initializer}
    casts: List[onnx.NodeProto] = []
    for tensor in graph.initializer:
        if tensor.data_type != _HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(weights[name])
        tensor.name = name + _SUFFIX
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=_BFLOAT))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
                attribute.i = _BFLOAT
            elif attribute.HasField("t") and attribute.t.data_type == _HALF:
                values = numpy_helper.to_array(attribute.t).astype("float32")
                attribute.t.CopyFrom(
                    helper.make_tensor(
                        attribute.t.name, _BFLOAT, list(values.shape), values.ravel().tolist()
                    )
                )
    graph.node.extend(casts)
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == _HALF:
            value.type.tensor_type.elem_type = _BFLOAT
    sort_nodes(graph)
    return rewritten._replace(notes=[])  # bfloat16 has the range of float32


def twin_of(model: onnx.ModelProto, kept: Dict[str, str]) -> onnx.ModelProto:
    """Return ``model`` in float32 with every tensor rounded that is bfloat16 in bf16's file.

    ONNX Runtime has casts to bfloat16 on the CPU, and hardly another kernel. A product of two
    bfloat16 numbers is exact in float32, and tensor cores add in float32 too.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    outputs = {value.name for value in graph.output}
    made_by = producers(graph)
    reduced = [node for node in graph.node if node.name not in kept]
    made_reduced = {name for node in reduced for name in node.output}
    names: Dict[str, str] = {}
    pairs: List[onnx.NodeProto] = []
    for name in _floats(graph):
        source, end = name, name + _ROUNDED
        if name in outputs and name in made_reduced:
            # The output keeps its name, and what makes it writes another one.
            source, end = name + _EXACT, name
            producer = made_by[name]
            producer.output[list(producer.output).index(name)] = source
        else:
            names[name] = end
        middle = f"{name}_bf16"
        pairs.append(helper.make_node("Cast", [source], [middle], f"{name}_down", to=_BFLOAT))
        pairs.append(helper.make_node("Cast", [middle], [end], f"{name}_up", to=TensorProto.FLOAT))
    rename_inputs(reduced, names)
    # What a reduced node makes is rounded for those that stay in fp32 too.
    made = {name: end for name, end in names.items() if name in made_reduced}
    rename_inputs([node for node in graph.node if node.name in kept], made)
    graph.node.extend(pairs)
    sort_nodes(graph)
    return twin


def _check_opset(model: onnx.ModelProto) -> None:
    opset = opset_of(model)
    if opset < _OLDEST:
        raise ConversionError(
            f"bf16 needs opset {_OLDEST} or newer, the model has {opset}", f"--opset {_OLDEST}"
        )
    changed = sorted({node.op_type for node in model.graph.node} & set(_CHANGED))
    if opset < OPSET and changed:
        raise ConversionError(
            f"bf16 needs opset {OPSET}, which changed {', '.join(changed)}", f"--opset {OPSET}"
        )


def _floats(graph: onnx.GraphProto) -> List[str]:
    """Return the names of the float32 tensors, as far as their types are known."""
    values = [*graph.input, *graph.value_info, *graph.output]
    names = [
        value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    names += [each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT]
    return list(dict.fromkeys(names))
