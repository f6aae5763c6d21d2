"""The allowed difference of two runtimes in one output, and tolerances that families share.

A tolerance applies to the outputs of the whole network, in the outputs' own units.
"""

from typing import NamedTuple, Tuple

import numpy as np

from trtyard.core.report import DetectionTolerance

FILLING = 1e4
_GAP = 1e-2


class Tolerance(NamedTuple):
    """An absolute and a relative tolerance, and the reason for them."""

    atol: float
    rtol: float
    source: str
    # atol is a share of the reference's largest magnitude: rounding errors of a sum grow with its
    # terms, not with the one logit that happens to end up near zero.
    of_largest: bool = False

    def bounds(self, reference: np.ndarray) -> Tuple[float, float]:
        """Return (atol, rtol) for this reference output, in its own unit."""
        if not self.of_largest:
            return self.atol, self.rtol
        magnitudes = np.abs(np.asarray(reference, dtype=np.float64))
        finite = magnitudes[np.isfinite(magnitudes)]
        if not self.rtol:  # rtol covers a fill value of 1e9 if atol ignores it
            return self.atol * (float(finite.max()) if finite.size else 0.0), self.rtol
        return self.atol * _largest(finite), self.rtol


EXACT = Tolerance(0.0, 0.0, "integers must be equal")
LOGITS = Tolerance(
    1e-3,
    0.0,
    "a thousandth of the largest logit; float32 rounding causes 1e-6 to 1.6e-4 of it "
    "(PyTorch against ONNX Runtime, fourteen torchvision networks with seeded weights)",
    of_largest=True,
)
BOXES = Tolerance(
    0.05, 1e-4, "a twentieth of a pixel, too small to matter in a drawing or an evaluation"
)
SCORES = Tolerance(1e-3, 0.0, "the third decimal of a score")
VALUES = Tolerance(
    1e-4,
    1e-3,
    "a thousandth of each value, as PyTorch's own verification of exports allows, and 1e-4 of "
    "the largest for values near zero",
    of_largest=True,
)
HALF_PRECISION = Tolerance(
    1e-3, 1e-3, "a float16 value has a rounding error of up to 2**-11 = 4.9e-4", of_largest=True
)

DETECTION = DetectionTolerance(box=BOXES.atol, score=SCORES.atol)


def _largest(magnitudes: np.ndarray) -> float:
    """Return the largest magnitude, without fill values.

    Masks fill with values such as -1e9. A share of that may be larger than every other value, which
    would make the comparison meaningless. A fill value is at least ``FILLING``, and no other value
    is between a hundredth and half of it.
    """
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    rest = magnitudes[magnitudes < largest * _GAP]
    filled = np.count_nonzero(magnitudes >= largest / 2)
    if largest < FILLING or filled + rest.size < magnitudes.size or not rest.any():
        return largest
    return _largest(rest)
