"""The custom ops as ONNX functions of standard ops, for runtimes without a kernel for them."""

from typing import Any, List, Sequence

import onnx

from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.onnx_body import nodes_within
from trtyard.pipeline.ops.registry import OP_TYPES, OPS, part

__all__ = [
    "DOMAIN",
    "DOMAIN_VERSION",
    "OP_TYPES",
    "custom_ops_in",
    "function",
    "functions_for",
    "keep_functions",
    "nodes_within",
    "opset_of",
]


def functions_for(model: onnx.ModelProto) -> "List[onnx.FunctionProto]":
    """Return a function for each custom op that ``model`` uses, at the model's opset.

    No function is returned for an op whose body needs a newer opset.
    """
    opset = opset_of(model)
    return [
        function(op_type, opset)
        for op_type in custom_ops_in(model)
        if opset >= minimum_opset(op_type)
    ]


def keep_functions(model: onnx.ModelProto, op_types: Sequence[str]) -> None:
    """Remove every function of the model except those of the custom ops ``op_types``."""
    for each in list(model.functions):
        if each.domain != DOMAIN or each.name not in op_types:
            model.functions.remove(each)


def custom_ops_in(model: onnx.ModelProto) -> List[str]:
    """Return the types of the custom ops that ``model`` uses, each once."""
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    return [op_type for op_type in OP_TYPES if op_type in used]


def opset_of(model: onnx.ModelProto) -> int:
    """Return the model's opset."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def minimum_opset(op_type: str) -> int:
    """Return the oldest opset for the function of ``op_type``."""
    return int(_part_of(op_type).MINIMUM_OPSET)


def function(op_type: str, opset: int) -> "onnx.FunctionProto":
    """Return the ONNX function of ``op_type`` for ``opset``.

    Raises:
        ValueError: the body needs a newer opset.
    """
    if opset < minimum_opset(op_type):
        raise ValueError(f"{op_type} needs opset {minimum_opset(op_type)} or newer, not {opset}")
    return _part_of(op_type).function(opset)


def _part_of(op_type: str) -> Any:
    (op,) = (each for each in OPS if each.op_type == op_type)
    return part(op, "onnx_function")
