"""Find what makes a module compute NaN: its weights, its norms' variances, or a layer."""

import contextlib
from typing import Any, Iterator, List, Mapping

import torch
from torch import nn

from trtyard.pipeline.torch_support.versions import NO_EPSILON


def is_spoilt(value: torch.Tensor) -> bool:
    """Return whether a weight tensor has NaN or infinity. A mask of 0 and -inf is allowed."""
    if not value.is_floating_point() or bool(torch.isfinite(value).all()):
        return False
    return not bool(((value == 0) | (value == float("-inf"))).all())


def bad_variances(module: nn.Module) -> List[str]:
    """Return a line for each norm whose variance plus epsilon is 0 or less, or is negative."""
    lines = []
    for name, layer in module.named_modules():
        variance = getattr(layer, "running_var", None)
        if not isinstance(variance, torch.Tensor):
            continue
        # A traced layer does not give its epsilon, which is hardly ever 0.
        unknown = 1.0 if isinstance(layer, torch.jit.ScriptModule) else 0.0
        epsilon = float(getattr(layer, "eps", unknown))
        epsilon = 0.0 if epsilon == NO_EPSILON else epsilon
        bad = (variance < 0) | (variance + epsilon <= 0)
        if bool(bad.any()):
            lines.append(
                f"{name + '.' if name else ''}running_var: {int(bad.sum())} of {bad.numel()} are 0 "
                f"or below, down to {float(variance.min()):.3g} (epsilon {epsilon:g})"
            )
    return lines


def spoilt_tensors(module: nn.Module) -> List[str]:
    """Return the names of parameters and buffers that have NaN or infinity."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, value in tensors if is_spoilt(value)]


@contextlib.contextmanager
def first_nan_noted(module: nn.Module) -> Iterator[List[str]]:
    """Watch the module's layers while the block runs.

    The block gets a list. After the run it has one line if a layer returned NaN for inputs without
    NaN: the first such layer. TorchScript layers cannot be watched.
    """
    found: List[str] = []
    names = {layer: name for name, layer in module.named_modules()}

    def look(layer: nn.Module, inputs: Any, outputs: Any) -> None:
        if not found and _has_nan(outputs) and not _has_nan(inputs):
            found.append(f"{names[layer] or 'the model'} ({type(layer).__name__})")

    hooks = [
        layer.register_forward_hook(look)
        for layer in names
        if not isinstance(layer, torch.jit.ScriptModule)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _has_nan(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() and bool(torch.isnan(value).any())
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    return isinstance(value, (tuple, list)) and any(map(_has_nan, value))
