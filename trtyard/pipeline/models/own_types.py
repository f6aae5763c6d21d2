"""The floating-point types of a user's module, and their conversion to float32."""

from typing import Callable, Iterator, List, NamedTuple, Tuple

import torch
from torch import nn

SHORT = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}
_NEEDED = {
    torch.bfloat16: "ONNX Runtime has no bfloat16 on the CPU, so nothing could be compared",
    torch.float64: "TensorRT computes nothing in float64",
}


class Conversion(NamedTuple):
    """Tensors that were converted to float32."""

    types: Tuple[torch.dtype, ...]  # their earlier types
    undo: Callable[[], None]


def types_in(module: nn.Module) -> Tuple[torch.dtype, ...]:
    """Return the floating-point types of the module's parameters and buffers, each once."""
    return tuple(dict.fromkeys(value.dtype for value in _floating(module)))


def precision_of(module: nn.Module) -> str:
    """Return the types of the module's weights for the report: "fp32", "fp16 and fp32"."""
    return (
        " and ".join(sorted(SHORT.get(each, name_of(each)) for each in types_in(module))) or "fp32"
    )


def name_of(dtype: torch.dtype) -> str:
    """Return a type's name as PyTorch writes it, without the package."""
    return str(dtype).replace("torch.", "")


def needed(types: Tuple[torch.dtype, ...]) -> Tuple[torch.dtype, ...]:
    """Return those of ``types`` that not every runtime supports."""
    return tuple(each for each in types if each in _NEEDED)


def why_needed(types: Tuple[torch.dtype, ...]) -> str:
    """Return why tensors of these types are converted to float32."""
    return "; ".join(_NEEDED[each] for each in types if each in _NEEDED)


def to_float32(module: nn.Module, types: Tuple[torch.dtype, ...]) -> Conversion:
    """Convert the module's parameters and buffers of these types to float32."""
    kept: List[Tuple[torch.Tensor, torch.Tensor]] = []
    found = tuple(each for each in types_in(module) if each in types)
    for value in _floating(module):
        if value.dtype in types:
            kept.append((value, value.data))
            value.data = value.data.float()

    def undo() -> None:
        for value, data in kept:
            value.data = data

    return Conversion(found, undo)


def _floating(module: nn.Module) -> Iterator[torch.Tensor]:
    seen = set()
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point() and id(value) not in seen:
            seen.add(id(value))
            yield value
