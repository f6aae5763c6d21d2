"""Check whether one tolerance fits an output, for example not boxes in pixels next to scores."""

from typing import Optional

import numpy as np

_FEWEST = 16  # elements of a column that are enough to measure its size
_SHARE = 0.1  # of an axis's columns; fewer small ones are chance, for example a dead channel
_WORTH = 100.0  # a column is compared well if the tolerance is a hundredth of its largest value


def unequal_scales(reference: np.ndarray, atol: float) -> Optional[str]:
    """Return a warning if ``atol``, a share of the largest value, is too wide for some columns.

    Args:
        reference: of any shape; the second and the last axis are checked.
        atol: absolute tolerance, in the output's unit.
    """
    if reference.dtype.kind != "f" or reference.ndim < 2:
        return None
    magnitudes = np.abs(reference.astype(np.float64))
    magnitudes[~np.isfinite(magnitudes)] = 0.0
    for axis in sorted({reference.ndim - 1, 1}, reverse=True):
        columns = reference.shape[axis]
        if not columns or reference.size // columns < _FEWEST:
            continue
        others = tuple(each for each in range(reference.ndim) if each != axis)
        largest = magnitudes.max(axis=others)
        small = largest[(largest > 0) & (largest < atol * _WORTH)]
        if small.size >= max(1.0, columns * _SHARE):
            return (
                f"{small.size} of {columns} columns (axis {axis}) have no value above "
                f"{float(small.max()):.2g}, so a tolerance of {atol:.2g} is too wide for them: "
                "return them as a separate output"
            )
    return None
