"""ONNX forms of operators that the TorchScript exporter of torch 2.0 to 2.3 writes wrong.

Its ``index_add`` and ``index_put(accumulate=True)`` keep one value of a repeated index, ``>>``
rounds toward zero, and ``softplus`` has no threshold. Files without these operators do not change.
"""

from typing import Any, Optional

import torch
from torch.onnx import symbolic_helper

from trtyard.pipeline.torch_support.versions import HAS_DYNAMO_CHOICE

_SUMS = 16  # the first opset in which ScatterND and ScatterElements add
# From here on log(1 + exp(x)) is x in float32, and PyTorch's default threshold changes nothing.
_SAME_IN_FLOAT32 = 20.0


def register_own_forms(opset: int) -> None:
    """Register the forms for the installed torch and ``opset``; others keep torch's own."""
    if HAS_DYNAMO_CHOICE or not hasattr(torch.onnx, "_type_utils"):
        return
    register = torch.onnx.register_custom_op_symbolic
    register("aten::softplus", _softplus, opset)
    if opset >= 11:
        register("aten::__rshift_", _right_shift, opset)
    if opset >= _SUMS:
        register("aten::index_add", _index_add, opset)
        register("aten::index_put", _index_put, opset)


def _softplus(graph: Any, values: Any, beta: Any, threshold: Any) -> Any:
    factor, limit = (symbolic_helper._maybe_get_const(each, "f") for each in (beta, threshold))
    scaled = values if factor == 1 else graph.op("Mul", values, beta)
    smooth = graph.op("Softplus", scaled)
    smooth = smooth if factor == 1 else graph.op("Div", smooth, beta)
    if isinstance(limit, (int, float)) and limit >= _SAME_IN_FLOAT32:
        return smooth
    return graph.op("Where", graph.op("Greater", scaled, threshold), values, smooth)


def _right_shift(graph: Any, values: Any, places: Any) -> Any:
    """Divide by a power of two and round down; torch's form of unsigned numbers is right."""
    from torch.onnx import symbolic_opset11

    dtype = _dtype(values)
    if dtype is None or dtype == torch.uint8 or dtype.is_floating_point:
        return symbolic_opset11.__rshift_(graph, values, places)
    # Beyond the sign bit, PyTorch shifts by all bits but that one, and so it does by a negative
    # number. Division by that power would overflow: shift twice.
    most = torch.iinfo(dtype).bits - 1

    def number(value: int, like: torch.dtype = dtype) -> Any:
        return graph.op("Constant", value_t=torch.tensor(value, dtype=like))

    def down(shifted: Any, divisor: Any) -> Any:
        quotient = graph.op("Div", shifted, divisor)
        rest = graph.op("Sub", shifted, graph.op("Mul", quotient, divisor))
        is_above = graph.op("Cast", graph.op("Less", rest, number(0)), to_i=_onnx_type(values))
        return graph.op("Sub", quotient, is_above)

    known = symbolic_helper._maybe_get_const(places, "t")
    if isinstance(known, torch.Tensor) and known.dim() == 0:
        count = int(known)
        count = count if 0 <= count < most else most
        once = down(values, number(1 << min(count, most - 1)))
        return down(once, number(2)) if count == most else once
    places = graph.op("Cast", places, to_i=_onnx_type(values))
    is_beyond = graph.op(
        "Or",
        graph.op("Less", places, number(0)),
        graph.op("Greater", places, number(most - 1)),
    )
    places = graph.op("Where", is_beyond, number(most - 1), places)
    exponent = graph.op("Cast", places, to_i=torch.onnx.TensorProtoDataType.DOUBLE)
    power = graph.op("Pow", number(2, torch.float64), exponent)
    once = down(values, graph.op("Cast", power, to_i=_onnx_type(values)))
    return graph.op("Where", is_beyond, down(once, number(2)), once)


def _index_add(graph: Any, values: Any, dim: Any, index: Any, other: Any, alpha: Any = None) -> Any:
    from torch.onnx import symbolic_opset9

    return _summed(symbolic_opset9.index_add(graph, values, dim, index, other, alpha))


def _index_put(graph: Any, values: Any, indices: Any, new: Any, accumulate: Any = False) -> Any:
    from torch.onnx import symbolic_opset9, symbolic_opset11

    if not symbolic_helper._maybe_get_const(accumulate, "b"):
        return symbolic_opset11.index_put(graph, values, indices, new, accumulate)
    if any(map(symbolic_helper._is_bool, symbolic_helper._unpack_list(indices))):
        # torch's form for a mask overwrites. A mask names each element once.
        zeros = symbolic_opset9.zeros_like(graph, values)
        return graph.op("Add", values, symbolic_opset11.index_put(graph, zeros, indices, new))
    return _summed(symbolic_opset11.index_put(graph, values, indices, new, accumulate))


def _summed(result: Any) -> Any:
    """Let a scatter into zeros, which torch adds to the values, sum over repeated indices."""
    _values, scattered = result.node().inputs()
    scattered.node().s_("reduction", "add")
    return result


def _dtype(value: Any) -> Optional[torch.dtype]:
    kind = torch.onnx._type_utils.JitScalarType
    found = kind.from_value(value, kind.UNDEFINED)
    return None if found == kind.UNDEFINED else found.dtype()


def _onnx_type(value: Any) -> Any:
    return torch.onnx._type_utils.JitScalarType.from_value(value).onnx_type()
