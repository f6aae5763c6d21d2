"""Seeded weights for any classifier, with activations of a sane size whatever its architecture."""

from typing import Any, List, Tuple

import torch
from torch import nn

from trtyard.pipeline.models.seeding import Seed

# Of the logits, about: an untrained classifier is undecided. Rounding errors grow with it.
LOGIT_DEVIATION = 1.0 / 64

# Learned tokens, position embeddings and the like: as torchvision's transformers draw them.
_EMBEDDING_DEVIATION = 0.02

# Statistics of norms are rounded to powers of two and to eighths of them. Fine enough to keep
# activations sane, and so coarse that the last bits, in which machines differ, do not matter.
_STEPS = 8.0


def seed_classifier(module: nn.Module, seed: int, images: torch.Tensor) -> None:
    """Overwrite all weights of ``module``, and set its batch norms' statistics by one picture.

    Untrained batch norms pass everything on as it is, and in a deep network it then explodes or
    vanishes. So each gets (rounded) mean and variance of what reaches it, front to back. At the
    end the last layer is scaled (by a power of two) for logits of a common size.

    Args:
        module: in eval mode.
        seed: of everything drawn.
        images: float32 [B, 3, H, W].

    Raises:
        RuntimeError, ValueError, AssertionError: whatever the module raises for these images.
    """
    draw = Seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            _seed_layer(layer, draw)
        norms = [each for each in module.modules() if isinstance(each, _BATCH_NORMS)]
        hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
        try:
            logits = module(images)
        finally:
            for hook in hooks:
                hook.remove()
        last = [each for each in module.modules() if isinstance(each, _WEIGHTED)][-1]
        last.weight.mul_(_power_of_two(LOGIT_DEVIATION / logits.std()))


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _seed_layer(layer: nn.Module, draw: Seed) -> None:
    for name, parameter in layer.named_parameters(recurse=False):
        if isinstance(layer, _WEIGHTED) or name.startswith("in_proj_"):
            # in_proj_ is nn.MultiheadAttention's, the one layer that holds matrices of its own.
            parameter.copy_(
                draw.weights(parameter.shape) if parameter.dim() > 1 else torch.zeros(())
            )
        elif not bool((parameter == parameter.reshape(-1)[0]).all()):
            parameter.copy_(draw.uniform(parameter.shape, _EMBEDDING_DEVIATION))
        # All alike: scales and shifts of norms, layer scales. Those are good as they are.


def _take_statistics(norm: Any, inputs: Tuple[torch.Tensor, ...]) -> None:
    x = inputs[0].double()
    others: List[int] = [axis for axis in range(x.dim()) if axis != 1]
    size = _power_of_two(x.pow(2).mean(dim=others).sqrt())
    mean = torch.round(x.mean(dim=others) / size * _STEPS) * size / _STEPS
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    spread = (x - mean.reshape(shape)).pow(2).mean(dim=others).sqrt()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(_power_of_two(torch.maximum(spread, size / _STEPS)) ** 2)


def _power_of_two(size: torch.Tensor) -> torch.Tensor:
    """Return the nearest power of two, and one for nothing at all."""
    exponent = torch.round(torch.log2(torch.where(size > 0, size, torch.ones_like(size))))
    return torch.exp2(exponent)
