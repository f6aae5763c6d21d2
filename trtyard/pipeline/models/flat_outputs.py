"""Flatten a module's nested outputs (mappings, tuples, lists) to named tensors."""

import re
from typing import Any, List, Mapping, Sequence, Tuple

import torch
from torch import nn

from trtyard.core.errors import UsageError

_OUTPUT = "output"
_TYPES = (
    torch.float32, torch.float64, torch.float16, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip


class Wrapper(nn.Module):
    """A module that runs another one, ``module``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class FlatOutputs(Wrapper):
    """Wraps a module so that it returns its outputs as a tuple of tensors."""

    def forward(self, *inputs: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """Return the tensors that ``named_outputs`` names, in its order."""
        return tuple(value for _, value in _leaves(self.module(*inputs), ()))


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the wrapped module, with its own names of layers and weights."""
    while isinstance(module, Wrapper):
        module = module.module
    return module


def with_named_outputs(
    module: nn.Module, outputs: Any, spec: str
) -> Tuple[Tuple[str, ...], nn.Module]:
    """Return the names of a module's outputs, and a module that returns only tensors.

    Outputs are named by their path: a mapping's key, a named tuple's field, or an index in a tuple
    or list. The index is left out if there is only one member: a detector that returns
    ``[{"boxes": ..., "scores": ...}]`` has ``boxes`` and ``scores``. Members that are None are not
    outputs.

    Args:
        module: the module.
        outputs: the module's outputs for this run's inputs.
        spec: the model as the user typed it, for errors.

    Raises:
        UsageError: the outputs are empty, not only tensors, or two of them have one name.
    """
    if isinstance(outputs, torch.Tensor):
        _check_type(_OUTPUT, outputs, spec)
        if not _could_meet(module):
            return (_OUTPUT,), module
    leaves = _leaves(outputs, ())
    names = tuple(_name(parts) for parts, _ in leaves)
    if not leaves or not all(isinstance(value, torch.Tensor) for _, value in leaves):
        kinds = ", ".join(type(value).__name__ for _, value in leaves) or type(outputs).__name__
        raise UsageError(
            f"{spec} returns ({kinds}); only tensors can be converted",
            "return a tensor, or a tuple, list or dict of tensors",
        )
    for name, value in zip(names, (value for _, value in leaves)):
        _check_type(name, value, spec)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{spec} returns two outputs called {twice[0]}", "give them other keys")
    # The exporter changes the module's mode, and then resets every layer to the outermost's mode.
    return names, FlatOutputs(module).train(module.training)


def _could_meet(module: nn.Module) -> bool:
    """Return whether a weight may have the name of an input or output.

    Wrapping the module changes the weights' names.
    """
    weights = [*module.named_parameters(), *module.named_buffers()]
    return any(name.startswith(("input", _OUTPUT)) and "." not in name for name, _ in weights)


def _check_type(name: str, value: torch.Tensor, spec: str) -> None:
    """Raise UsageError for a tensor that a runtime cannot return or numpy cannot represent."""
    what = str(value.dtype).replace("torch.", "")
    hint = "call .float() on it before it is returned"
    if "complex" in what:
        hint = "return torch.view_as_real() of it: ONNX has no complex numbers"
    elif value.device.type == "meta":
        what, hint = "on the meta device", "compute it on the CPU: there it has no values"
    elif value.layout != torch.strided:
        what, hint = (
            str(value.layout).replace("torch.", ""),
            "call .to_dense() on it before it is returned",
        )
    elif value.dtype in _TYPES:
        return
    raise UsageError(f"{spec}: its output '{name}' is {what}, which cannot be compared", hint)


def _leaves(value: Any, parts: Sequence[Any]) -> List[Tuple[Sequence[Any], Any]]:
    """Return the leaves, each with its path of keys (text) and indices (int)."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        members: List[Tuple[Sequence[Any], Any]]
        members = [((*parts, str(key)), each) for key, each in value.items()]
    elif hasattr(value, "_fields"):
        members = [((*parts, key), each) for key, each in zip(value._fields, value)]
    elif isinstance(value, (tuple, list)):
        alone = len(value) == 1
        members = [(parts if alone else (*parts, index), each) for index, each in enumerate(value)]
    else:
        return [(parts, value)]
    return [leaf for inner, each in members for leaf in _leaves(each, inner)]


def _name(parts: Sequence[Any]) -> str:
    """Return a name that every exporter accepts: letters, digits, dots and underscores."""
    name = re.sub(r"[^\w.]", "_", "_".join(map(str, parts)))
    return name if re.match(r"[A-Za-z_]", name) else f"{_OUTPUT}_{name}".rstrip("_")
