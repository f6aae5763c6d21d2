"""Seeded weights for any network that keep its activations at a sane size."""

from typing import Any, Tuple

import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from trtyard.pipeline.models.seeding import Seed
from trtyard.pipeline.torch_support.versions import power_of_two

# Of the logits, about: an untrained classifier is undecided. Rounding errors grow with it.
LOGIT_DEVIATION = 1.0 / 16

# Learned tokens, position embeddings and the like: as torchvision's transformers draw them.
_EMBEDDING_DEVIATION = 0.02


def seed_classifier(module: nn.Module, seed: int, images: torch.Tensor) -> None:
    """Overwrite all weights of ``module``, and set its batch norms' statistics by one picture.

    Untrained batch norms pass everything on as it is, and in a deep network it then explodes or
    vanishes. So each gets the mean square of what reaches it as its variance, front to back, and
    the last layer is scaled for logits of a common size. All this by powers of two: the last bits
    of sums, in which machines differ, do not matter then. Means are not taken off: random norms
    that do so double rounding errors every few layers.

    Args:
        module: in eval mode.
        seed: of everything drawn.
        images: float32 [B, 3, H, W].

    Raises:
        RuntimeError, ValueError, AssertionError: whatever the module raises for these images.
    """
    logits = seed_network(module, seed, images)
    with torch.no_grad():
        last = [each for each in module.modules() if isinstance(each, _WEIGHTED)][-1]
        last.weight.mul_(LOGIT_DEVIATION / nearest_power_of_two(logits.std()))


def seed_network(module: nn.Module, seed: int, images: torch.Tensor) -> Any:
    """Overwrite the weights and set the batch norms, as above, and return what then comes out."""
    draw = Seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            _seed_layer(layer, draw)
        norms = [each for each in module.modules() if isinstance(each, _BATCH_NORMS)]
        hooks = [norm.register_forward_pre_hook(_take_size) for norm in norms]
        try:
            return module(images)
        finally:
            for hook in hooks:
                hook.remove()


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, FrozenBatchNorm2d)
_ENOUGH = 16  # values of a channel to take its size from
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _seed_layer(layer: nn.Module, draw: Seed) -> None:
    for name, parameter in layer.named_parameters(recurse=False):
        if isinstance(layer, _WEIGHTED) or name.startswith("in_proj_"):
            # in_proj_ belongs to nn.MultiheadAttention, the only layer with bare matrices.
            parameter.copy_(
                draw.weights(parameter.shape) if parameter.dim() > 1 else torch.zeros(())
            )
        elif not bool((parameter == parameter.reshape(-1)[0]).all()):
            parameter.copy_(draw.uniform(parameter.shape, _EMBEDDING_DEVIATION))
        # All alike: scales and shifts of norms, layer scales. Those are good as they are.


def _take_size(norm: Any, inputs: Tuple[torch.Tensor, ...]) -> None:
    x = inputs[0].double()
    # Of a few values, one channel's may all be near zero by chance, and dividing by their size
    # would magnify their rounding errors: then all channels together.
    few = x[:, 0].numel() < _ENOUGH
    size = x.pow(2).mean() if few else x.pow(2).mean(dim=[0, *range(2, x.dim())])
    norm.running_var.copy_(nearest_power_of_two(size))


def nearest_power_of_two(values: torch.Tensor) -> torch.Tensor:
    """Return the nearest powers of two, and one for zero."""
    exponent = torch.round(torch.log2(torch.where(values > 0, values, torch.ones_like(values))))
    return power_of_two(exponent)
