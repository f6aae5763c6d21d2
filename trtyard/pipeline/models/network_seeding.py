"""Seeded weights for any network that keep its activations at a moderate size."""

from typing import Any, Tuple

import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from trtyard.pipeline.models.seeding import Seed
from trtyard.pipeline.torch_support.versions import power_of_two

# Approximate deviation of the logits: small, as rounding errors grow with it.
LOGIT_DEVIATION = 1.0 / 16

# For learned tokens, position embeddings and similar, as in torchvision's transformers.
_EMBEDDING_DEVIATION = 0.02


def seed_classifier(module: nn.Module, seed: int, images: torch.Tensor) -> None:
    """Overwrite all weights of ``module``, and set its batch norms' statistics from one picture.

    Untrained batch norms do not change their input, so activations explode or vanish in a deep
    network. Therefore each norm, from front to back, gets the mean square of its input as its
    variance, and the last layer is scaled for logits of a moderate size. All factors are powers of
    two, so the last bits of sums, which differ between machines, do not matter. Means stay 0:
    random norms that subtract a mean double rounding errors every few layers.

    Args:
        module: in eval mode.
        seed: of all random numbers.
        images: float32 [B, 3, H, W].

    Raises:
        RuntimeError, ValueError, AssertionError: the module does not support these images.
    """
    logits = seed_network(module, seed, images)
    with torch.no_grad():
        last = [each for each in module.modules() if isinstance(each, _WEIGHTED)][-1]
        last.weight.mul_(LOGIT_DEVIATION / nearest_power_of_two(logits.std()))


def seed_network(module: nn.Module, seed: int, images: torch.Tensor) -> Any:
    """Overwrite the weights and set the batch norms as above, and return the module's output."""
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
_ENOUGH = 16  # values of a channel that are enough to measure its size
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
        # Equal values are scales and shifts of norms, or layer scales. They stay.


def _take_size(norm: Any, inputs: Tuple[torch.Tensor, ...]) -> None:
    x = inputs[0].double()
    # A channel with few values may be near zero by chance, and dividing by its size would magnify
    # rounding errors. Then all channels are measured together.
    few = x[:, 0].numel() < _ENOUGH
    size = x.pow(2).mean() if few else x.pow(2).mean(dim=[0, *range(2, x.dim())])
    norm.running_var.copy_(nearest_power_of_two(size))


def nearest_power_of_two(values: torch.Tensor) -> torch.Tensor:
    """Return the nearest powers of two; 1 for values that are not positive."""
    exponent = torch.round(torch.log2(torch.where(values > 0, values, torch.ones_like(values))))
    return power_of_two(exponent)
