"""Faster R-CNN R50-C4 of static shapes, with padded outputs."""

from typing import TYPE_CHECKING, List, Mapping, Sequence

import numpy as np

from trtyard.core.known_models import FASTER_RCNN
from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.models.faster_rcnn.conventions import DETECTION_IOU, SCORE_THRESHOLD
from trtyard.pipeline.parity.detections import Thresholds
from trtyard.pipeline.parity.kind import Kind
from trtyard.pipeline.parity.padded import Detections, images_in, unpadded
from trtyard.pipeline.parity.tolerance import BOXES, EXACT, SCORES

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model


def _detections(outputs: Mapping[str, np.ndarray]) -> List[Detections]:
    return [unpadded(outputs, image) for image in range(images_in(outputs))]


KIND = Kind(
    "detector",
    {"boxes": BOXES, "scores": SCORES, "labels": EXACT},
    detections=_detections,
    thresholds=Thresholds(SCORE_THRESHOLD, DETECTION_IOU),
)


def names() -> Sequence[str]:
    """Return the one name."""
    return (FASTER_RCNN,)


def load(_spec: str, options: Options) -> "Model":
    """Return the detector; see ``load_faster_rcnn``."""
    from trtyard.pipeline.models.faster_rcnn.load import load_faster_rcnn

    return load_faster_rcnn(
        options.choice, options.image, options.size, options.top_n, options.input_shape
    )


FAMILY = Family(
    KIND,
    ("--image", "--size", "--top-n", "--input"),
    "it takes --image, --top-n, and --size or --input 1..8x3x512x512",
    load,
    names,
)
