"""The detector's ResNet-50: frozen norms, and strides in the 1x1 convolutions.

The modules are named so that their state has the keys of the published checkpoints.
"""

from collections import OrderedDict
from typing import Any, Tuple

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet

from trtyard.pipeline.torch_support.versions import NO_EPSILON

_STEM_CHANNELS = 64
# Of ResNet-50: input channels, width, blocks, stride of each stage (He et al. 2015, table 1).
_STAGES = ((64, 64, 3, 1), (256, 128, 4, 2), (512, 256, 6, 2), (1024, 512, 3, 2))


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics. Unlike torchvision's, it has no epsilon."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (x - mean) * weight / sqrt(var) + bias for each channel of [B, C, H, W]."""
        mean, variance = self.running_mean, self.running_var
        return functional.batch_norm(
            x, mean, variance, self.weight, self.bias, False, 0.0, NO_EPSILON
        )


class Bottleneck(resnet.Bottleneck):
    """torchvision's block with the stride in the first 1x1 convolution, as in He et al. (2015)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class Stem(nn.Module):
    """The 7x7 convolution of stride 2 and the pooling of stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM_CHANNELS, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(_STEM_CHANNELS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return [B, 64, H / 4, W / 4], rounded up."""
        x = functional.relu(self.bn1(self.conv1(images)))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def backbone_and_head() -> Tuple[nn.Module, nn.Module]:
    """Return the stages up to C4 ([B, 3, H, W] to [B, 1024, H / 16, W / 16]), and the fifth.

    The fifth turns [R, 1024, 14, 14] into [R, 2048, 7, 7]. It uses only every second cell of its
    input, because its first block has the stride in 1x1 convolutions.
    """
    stem = Stem()
    layers = [
        (f"layer{number}", _stage(channels, width, blocks, stride))
        for number, (channels, width, blocks, stride) in enumerate(_STAGES, start=1)
    ]
    body = nn.Sequential(OrderedDict([("stem", stem), *layers[:-1]]))
    return nn.Sequential(OrderedDict([("body", body)])), nn.Sequential(OrderedDict(layers[-1:]))


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Module:
    """Return a stage that turns ``channels`` into ``4 * width`` and divides the sides by stride."""
    outputs = width * Bottleneck.expansion
    shortcut = nn.Sequential(
        nn.Conv2d(channels, outputs, kernel_size=1, stride=stride, bias=False),
        FrozenBatchNorm(outputs),
    )
    first = Bottleneck(channels, width, stride, shortcut, norm_layer=FrozenBatchNorm)
    rest = [Bottleneck(outputs, width, norm_layer=FrozenBatchNorm) for _ in range(1, blocks)]
    return nn.Sequential(first, *rest)
