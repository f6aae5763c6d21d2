"""How far each precision may differ from PyTorch in fp32.

Measured on the default row with seeded weights (docs/precision.md has the command and the numbers).
Random weights pass rounding on from layer to layer more than trained ones do, so a trained model
stays further below these bounds.
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


BUDGETS: Dict[str, Budget] = {
    FP16: Budget(
        0.04,
        0.999,
        0.99,
        0.5,
        DetectionTolerance(box=2.0, score=0.02),
        "see docs/precision.md",
    ),
    BF16: Budget(
        0.2, 0.98, 0.95, 0.3, DetectionTolerance(box=8.0, score=0.1), "see docs/precision.md"
    ),
    INT8: Budget(
        0.25, 0.97, 0.9, 0.3, DetectionTolerance(box=8.0, score=0.1), "see docs/precision.md"
    ),
    FP8: Budget(
        0.25, 0.97, 0.9, 0.3, DetectionTolerance(box=8.0, score=0.1), "see docs/precision.md"
    ),
}

# fp32 is judged by the stages' own tolerances; these say the same in the table's terms.
SHOWN_FOR_FP32 = Budget(1e-3, 0.99999, 1.0, 1.0, DETECTION, "see parity")
