"""How far each precision may differ from PyTorch in fp32.

Measured on the default row; docs/precision.md has the command and every number. Seeded weights
have budgets of their own: a deep network of random weights passes each rounding on from layer to
layer and makes it larger. DeepLabV3 has 7 to 37 times the error of ResNet-18 in each precision,
and 2e-5 between PyTorch and ONNX Runtime in fp32. So these budgets catch a wrong file, such as a
scale that is off by a factor, and say little about accuracy.
"""

from typing import Dict, NamedTuple

from trtyard.core.precisions import BF16, FP8, FP16, INT8
from trtyard.core.report import DetectionTolerance
from trtyard.pipeline.parity.tolerance import DETECTION

# A share of fewer samples says little: it is shown and not judged.
JUDGED_SAMPLES = 20


class Budget(NamedTuple):
    """The bounds of one precision."""

    relative_error: float  # of an output: |candidate - reference| / |reference|
    cosine: float  # of an output, at least
    decisions: float  # share of equal classes or pixels with trained weights, at least
    detections: float  # share of the reference's detections that are found again, at least
    tolerance: DetectionTolerance  # of a pair of detections that counts as the same
    source: str


_TRAINED = (
    "Three times the largest error of the networks that pass roundings on without making them "
    "larger: AlexNet, ResNet-18, ResNet-50 and ViT-B/16 (docs/precision.md)"
)
_SEEDED = (
    "For seeded weights: above the largest error of the networks in docs/precision.md, and below "
    "that of a wrong scale. Trained weights have a tighter budget"
)

BUDGETS: Dict[str, Budget] = {
    FP16: Budget(0.012, 0.9999, 0.98, 0.95, DetectionTolerance(box=1.0, score=0.01), _TRAINED),
    BF16: Budget(0.1, 0.995, 0.95, 0.9, DetectionTolerance(box=4.0, score=0.05), _TRAINED),
    INT8: Budget(0.3, 0.96, 0.9, 0.8, DetectionTolerance(box=8.0, score=0.1), _TRAINED),
    FP8: Budget(0.45, 0.9, 0.85, 0.8, DetectionTolerance(box=8.0, score=0.1), _TRAINED),
}
SEEDED_BUDGETS: Dict[str, Budget] = {
    FP16: BUDGETS[FP16]._replace(relative_error=0.04, cosine=0.999, detections=0.5, source=_SEEDED),
    BF16: BUDGETS[BF16]._replace(relative_error=0.3, cosine=0.95, detections=0.3, source=_SEEDED),
    INT8: BUDGETS[INT8]._replace(relative_error=0.7, cosine=0.8, detections=0.2, source=_SEEDED),
    FP8: BUDGETS[FP8]._replace(relative_error=0.8, cosine=0.7, detections=0.1, source=_SEEDED),
}
# fp32 is judged by the stages' own tolerances; these say the same in the table's terms.
SHOWN_FOR_FP32 = Budget(1e-3, 0.99999, 1.0, 1.0, DETECTION, "see parity")


def budget_of(precision: str, is_trained: bool) -> Budget:
    """Return the budget of a reduced precision."""
    return (BUDGETS if is_trained else SEEDED_BUDGETS)[precision]
