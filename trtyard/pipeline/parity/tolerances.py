"""How far two runtimes may differ, as data: one entry for each kind of model and output.

A tolerance is for the outputs of the whole network, in the outputs' own units. Looser ones for a
type or a runtime are entries too, so that a report never has a number that is not in this table.
"""

from typing import NamedTuple, Tuple

import numpy as np

from trtyard.core.report import DetectionTolerance

ANY = "*"
FILLING = 1e4
_GAP = 1e-2


class Tolerance(NamedTuple):
    """An absolute and a relative part, and where they come from."""

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
        if not self.rtol:  # by which a filling of 1e9 is judged, where it is left out of atol
            return self.atol * (float(finite.max()) if finite.size else 0.0), self.rtol
        return self.atol * _largest(finite), self.rtol


_EXACT = "integers are equal or they are not"

_LOGITS = Tolerance(
    1e-3,
    0.0,
    "a thousandth of the largest logit; float32 rounding alone makes 1e-6 to 1.6e-4 of it "
    "(PyTorch against ONNX Runtime, fourteen torchvision networks with seeded weights)",
    of_largest=True,
)
_BOXES = Tolerance(
    0.05, 1e-4, "a twentieth of a pixel, far below what moves a drawn or a scored box"
)
_SCORES = Tolerance(1e-3, 0.0, "the third decimal of a score")
_LABELS = Tolerance(0.0, 0.0, _EXACT)

TOLERANCES = {
    ("classifier", ANY): _LOGITS,
    ("segmenter", ANY): _LOGITS,
    ("detector", "boxes"): _BOXES,
    ("detector", "scores"): _SCORES,
    ("detector", "labels"): _LABELS,
    ("torchvision_detector", "boxes"): _BOXES,
    ("torchvision_detector", "scores"): _SCORES,
    ("torchvision_detector", "labels"): _LABELS,
    ("torchvision_detector", "masks"): Tolerance(
        1e-2,
        0.0,
        "a hundredth of a probability; a mask is cut at a half",
    ),
    ("torchvision_detector", "keypoints"): Tolerance(
        0.05, 1e-4, "a twentieth of a pixel, as for boxes"
    ),
    ("torchvision_detector", "keypoints_scores"): _LOGITS,
    ("tensor", ANY): Tolerance(
        1e-4,
        1e-3,
        "a thousandth of each value, as PyTorch's own verification of exports allows, and 1e-4 of "
        "the largest for values near zero",
        of_largest=True,
    ),
}

HALF_PRECISION = Tolerance(
    1e-3, 1e-3, "a float16 value carries 2**-11 = 4.9e-4 of rounding", of_largest=True
)

DETECTION = DetectionTolerance(
    box=TOLERANCES["detector", "boxes"].atol, score=TOLERANCES["detector", "scores"].atol
)


def _largest(magnitudes: np.ndarray) -> float:
    """Return the largest magnitude; of what is no filling, where there is filling.

    Masks fill with -1e9 and the like. A share of that may be more than every other value, and the
    comparison would say nothing. Such a filling is at least ``FILLING`` large, and no value is
    between a hundredth and half of it.
    """
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    rest = magnitudes[magnitudes < largest * _GAP]
    filled = np.count_nonzero(magnitudes >= largest / 2)
    if largest < FILLING or filled + rest.size < magnitudes.size or not rest.any():
        return largest
    return _largest(rest)


def tolerance_for(kind: str, output: str, dtype: np.dtype, has_float16: bool = False) -> Tolerance:
    """Return the tolerance of one output.

    Args:
        kind: the model's kind: "classifier", "segmenter", "detector", "torchvision_detector" or
            "tensor" (a user's own model).
        output: the output's name.
        dtype: the reference output's type; float16 gets a tolerance that fits float16, except
            where the output has an entry of its own.
        has_float16: a user's own model computes in float16 somewhere, so that its float32 outputs
            carry float16's rounding too.

    Raises:
        ValueError: an unknown kind, or a detector's output that has no entry.
    """
    entry = TOLERANCES.get((kind, output))
    if entry is not None:
        return entry
    entry = TOLERANCES.get((kind, ANY))
    if entry is None:
        known = ", ".join(f"{kind}/{output}" for kind, output in sorted(TOLERANCES))
        raise ValueError(f"no tolerance for {kind}/{output}; known are {known}")
    is_half = np.dtype(dtype) == np.float16 or (has_float16 and kind == "tensor")
    return HALF_PRECISION if is_half else entry
