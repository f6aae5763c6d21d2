"""Seeded weights for torchvision's detectors that give detections to compare."""

import re
from typing import Any, Tuple

import torch
from torch import nn

from trtyard.pipeline.models.network_seeding import nearest_power_of_two, seed_network

# The last layers, by their names in torchvision. Their outputs are scaled so that some scores are
# above torchvision's thresholds and boxes stay near their anchors.
_SCORES = re.compile(
    r"(cls_score|cls_logits|bbox_ctrness|mask_fcn_logits|kps_score_lowres"
    r"|classification_head\.module_list\.\d+(\.1)?)$"
)
_BOXES = re.compile(r"(bbox_pred|bbox_reg|regression_head\.module_list\.\d+(\.1)?)$")
SCORE_DEVIATION = 2.0
BOX_DEVIATION = 1.0 / 4

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
# Only FCOS has such a layer. It predicts distances to a box's sides, and a negative distance gives
# no box.
_CENTRENESS = re.compile(r"bbox_ctrness$")
DISTANCE = 2.0


def seed_detector(module: nn.Module, seed: int, images: torch.Tensor) -> None:
    """Overwrite all weights of ``module``, in one pass from front to back.

    Args:
        module: in eval mode; takes ``images``.
        seed: of all random numbers.
        images: float32 [1, 3, H, W].
    """
    named = [(name, each) for name, each in module.named_modules() if isinstance(each, _LAYERS)]
    offset = DISTANCE if any(_CENTRENESS.search(name) for name, _ in named) else 0.0
    hooks = [
        layer.register_forward_hook(_Scaled(*aim))
        for pattern, aim in ((_SCORES, (SCORE_DEVIATION, 0.0)), (_BOXES, (BOX_DEVIATION, offset)))
        for name, layer in named
        if pattern.search(name)
    ]
    try:
        seed_network(module, seed, images)
    finally:
        for hook in hooks:
            hook.remove()


class _Scaled:
    """Scales a layer to a given output deviation, by a power of two, on its first use."""

    def __init__(self, deviation: float, offset: float) -> None:
        self._deviation, self._offset = deviation, offset
        self._done = False

    def __call__(self, layer: Any, _: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if self._done:
            return output
        self._done = True
        factor = self._deviation / nearest_power_of_two(output.std())
        layer.weight.mul_(factor)
        layer.bias.fill_(self._offset)  # it is 0 after seeding
        return output * factor + self._offset
