"""Random weights that are the same on every machine.

Only operations with exact IEEE 754 results are used: 24-bit uniform numbers from torch's Mersenne
twister, sums that are exact in float64 in any order, square roots, and single roundings to float32.
torch's normal numbers use vectorised logarithms, which differ between processors.
"""

import math
from typing import Sequence

import torch

# Numbers converted to float64 at a time, which fit a processor's cache.
_BLOCK = 1 << 18

# Standard deviation of the uniform distribution between 0 and 1.
_UNIFORM_MEAN = 0.5
_UNIFORM_DEVIATION = math.sqrt(1.0 / 12)


class Seed:
    """A stream of random weights."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator()
        self._generator.manual_seed(seed)

    def weights(
        self, shape: Sequence[int], gain: float = math.sqrt(2.0), centered: bool = False
    ) -> torch.Tensor:
        """Return a layer's weights, float32, with standard deviation gain / sqrt(fan in).

        The default gain keeps the mean square through layers with ReLU (He et al., Delving Deep
        into Rectifiers, 2015).

        Args:
            shape: [outputs, inputs, ...] of the layer.
            gain: output standard deviation for inputs of mean square one.
            centered: make each output's weights sum to zero. The inputs in a ReLU network are all
                positive, and their common part would otherwise outweigh their differences. Such
                features distinguish positions, but rounding errors grow with depth.
        """
        fan_in = 1
        for size in shape[1:]:
            fan_in *= size
        values = self._draw((shape[0], fan_in))
        values.sub_(_row_means(values) if centered else _UNIFORM_MEAN)
        values.mul_(gain / (_UNIFORM_DEVIATION * math.sqrt(fan_in)))
        return values.reshape(tuple(shape))

    def uniform(self, shape: Sequence[int], deviation: float) -> torch.Tensor:
        """Return float32 numbers, uniform around zero with the given standard deviation."""
        drawn = self._draw(shape)
        return drawn.sub_(_UNIFORM_MEAN).mul_(deviation / _UNIFORM_DEVIATION)

    def whole(self, shape: Sequence[int], below: int) -> torch.Tensor:
        """Return int64 numbers from 0 to ``below`` - 1; ``below`` is at most 2^24."""
        return (self._draw(shape).double() * below).floor().long()

    def _draw(self, shape: Sequence[int]) -> torch.Tensor:
        """Return multiples of 2^-24 in 0..1; sums of them are exact in float64."""
        return torch.rand(tuple(shape), generator=self._generator, dtype=torch.float32)


def _row_means(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of each row, float32 [rows, 1]."""
    rows = max(1, _BLOCK // values.shape[1])
    sums = [block.double().sum(dim=1, keepdim=True) for block in values.split(rows)]
    return (torch.cat(sums) / values.shape[1]).float()
