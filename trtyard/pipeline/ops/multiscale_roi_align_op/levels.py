"""Which map of a pyramid a roi is pooled from: the rule of torchvision, without torch."""

import math

import numpy as np

# Added to a roi's level before it is rounded down, so that a roi of the canonical size gets the
# canonical level in spite of rounding. As in torchvision and in levels.cuh.
LEVEL_EPSILON = 1e-6

_BITS_OF_INFINITY = 0x7F800000


def level_of_scale(scale: float) -> int:
    """Return the level of a map: k for the scale 2^-k, else rounded towards 0."""
    return int(-np.float32(math.log2(np.float32(scale))))


def smallest_area(level: int, canonical_scale: int, canonical_level: int) -> np.float32:
    """Return the smallest area in float32 of a roi of ``level`` or a coarser one."""
    low, high = 0, _BITS_OF_INFINITY  # the bits of positive floats are in order
    while low < high:
        middle = (low + high) // 2
        if _level(_of_bits(middle), canonical_scale, canonical_level) >= level:
            high = middle
        else:
            low = middle + 1
    return _of_bits(low)


def _of_bits(bits: int) -> np.float32:
    return np.array(bits, np.int32).view(np.float32)[()]


def _level(area: np.float32, canonical_scale: int, canonical_level: int) -> float:
    """Return the level of a roi, each operation rounded to float32."""
    size = np.sqrt(area) / np.float32(canonical_scale)
    if size == 0:
        return -math.inf
    level = np.float32(canonical_level) + np.float32(np.log2(np.float64(size)))
    return float(np.floor(level + np.float32(LEVEL_EPSILON)))
