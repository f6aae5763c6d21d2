"""Random weights that are the same on every machine.

Only what IEEE 754 fixes is used: 24-bit uniform numbers from torch's Mersenne twister (its normal
numbers go through vectorised logarithms, which differ between processors), sums that are exact in
float64 in whatever order, square roots, and one rounding after the other to float32.
"""

import math
from typing import Sequence

import torch

# Numbers turned into float64 at a time: what fits a processor's cache.
_BLOCK = 1 << 18

# Of the uniform distribution between 0 and 1.
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
            centered: make each output's weights sum to zero, so that what all inputs of a ReLU
                network share (they are all positive) does not drown what they differ in. Such
                features tell places apart, at the price of growing rounding errors with depth.
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
        """Return int64 numbers from 0 up to ``below``, which is left out; at most 2^24 of them."""
        return (self._draw(shape).double() * below).floor().long()

    def _draw(self, shape: Sequence[int]) -> torch.Tensor:
        """Return multiples of 2^-24 in 0..1; sums of them are exact in float64."""
        return torch.rand(tuple(shape), generator=self._generator, dtype=torch.float32)


def _row_means(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of each row, float32 [rows, 1]."""
    rows = max(1, _BLOCK // values.shape[1])
    sums = [block.double().sum(dim=1, keepdim=True) for block in values.split(rows)]
    return (torch.cat(sums) / values.shape[1]).float()
