"""torchvision's detectors. Their outputs have one row for each detection and no padding."""

from typing import TYPE_CHECKING, List, Mapping, Sequence

import numpy as np

from trtyard.pipeline.models.family import Family, Options, not_for
from trtyard.pipeline.parity.kind import Kind
from trtyard.pipeline.parity.padded import Detections, of_torchvision
from trtyard.pipeline.parity.tolerance import BOXES, EXACT, LOGITS, SCORES, Tolerance

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model


def _detections(outputs: Mapping[str, np.ndarray]) -> List[Detections]:
    return [of_torchvision(outputs)]


KIND = Kind(
    "torchvision_detector",
    {
        "boxes": BOXES,
        "scores": SCORES,
        "labels": EXACT,
        "masks": Tolerance(1e-2, 0.0, "a hundredth of a probability; a mask is cut at a half"),
        "keypoints": Tolerance(0.05, 1e-4, "a twentieth of a pixel, as for boxes"),
        "keypoints_scores": LOGITS,
    },
    detections=_detections,
    has_row_each=True,
)


def names() -> Sequence[str]:
    """Return the names that this row's torchvision has."""
    from trtyard.pipeline.torch_support.versions import detector_names

    return detector_names()


def load(spec: str, options: Options) -> "Model":
    """Return the detector; see ``load_detector``.

    Raises:
        UsageError: --norm-eps is given without a checkpoint, whose norms it is about.
    """
    from trtyard.pipeline.models.torchvision_detector import load_detector

    if options.choice.file is None and options.norm_epsilon is not None:
        raise not_for("--norm-eps", "seeded weights", "give a checkpoint: --weights FILE")
    return load_detector(
        spec,
        options.choice,
        options.image,
        options.size,
        options.norm_epsilon,
        options.detections,
    )


FAMILY = Family(
    KIND,
    ("--image", "--size", "--norm-eps", "--detections"),
    "it takes --image and --size; of the detectors faster_rcnn takes a range of batches: "
    "--model faster_rcnn --input 1..8x3x512x512",
    load,
    names,
)
