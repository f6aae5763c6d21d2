"""How far two arrays are apart, in pieces: an intermediate value may take hundreds of megabytes."""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from trtyard.core.report import WorstElement

# Shares of the largest value and of each: a single node, given PyTorch's inputs, only rounds.
_ATOL, _RTOL = 3e-5, 1e-4
_HALF_ATOL, _HALF_RTOL = 2e-3, 2e-3
_PIECE = 1 << 20  # elements


class Difference(NamedTuple):
    """The comparison of one value."""

    elements: int
    mismatches: int
    max_abs: float  # infinity if one side alone is not finite
    relative: float  # max_abs as a share of the reference's largest magnitude
    worst: Optional[WorstElement]
    overflows: int  # elements that are finite in the reference alone

    @property
    def agrees(self) -> bool:
        """Whether every element is within rounding."""
        return self.mismatches == 0


def difference(reference: np.ndarray, candidate: np.ndarray, is_half: bool = False) -> Difference:
    """Return how far ``candidate`` is from ``reference``; another shape differs everywhere.

    Args:
        reference: the right value.
        candidate: the other one.
        is_half: it is computed in 16 bits.
    """
    if reference.shape != candidate.shape:
        size = int(max(reference.size, candidate.size))
        return Difference(size, max(size, 1), np.inf, np.inf, None, 0)
    left, right = reference.reshape(-1), candidate.reshape(-1)
    is_float = reference.dtype.kind == "f"
    largest = _largest(left)
    atol, rtol = (_HALF_ATOL, _HALF_RTOL) if is_half else (_ATOL, _RTOL)
    atol, rtol = (atol * largest, rtol) if is_float else (0.0, 0.0)
    mismatches = overflows = 0
    max_abs, worst_excess, at = 0.0, -np.inf, -1
    for start in range(0, left.size, _PIECE):
        one = left[start : start + _PIECE].astype(np.float64)
        other = right[start : start + _PIECE].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(one - other)
            error[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
            error[np.isnan(error)] = np.inf
            excess = error - (atol + rtol * np.where(np.isfinite(one), np.abs(one), 0.0))
        mismatches += int(np.count_nonzero(excess > 0))
        overflows += int(np.count_nonzero(np.isfinite(one) & ~np.isfinite(other)))
        max_abs = max(max_abs, float(error.max()))
        index = int(np.argmax(excess))
        if excess[index] > worst_excess:
            worst_excess, at = float(excess[index]), start + index
    worst = None
    if at >= 0:
        position: Tuple[int, ...] = ()
        if reference.shape:
            position = tuple(int(each) for each in np.unravel_index(at, reference.shape))
        worst = WorstElement(position, float(left[at]), float(right[at]))
    relative = max_abs / largest if largest else max_abs
    return Difference(left.size, mismatches, max_abs, relative, worst, overflows)


def _largest(values: np.ndarray) -> float:
    largest = 0.0
    for start in range(0, values.size, _PIECE):
        piece = np.abs(values[start : start + _PIECE].astype(np.float64))
        piece = piece[np.isfinite(piece)]
        largest = max(largest, float(piece.max()) if piece.size else 0.0)
    return largest
