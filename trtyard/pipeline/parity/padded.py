"""Split a detector's padded outputs into detections and padding, and check the padding."""

from typing import Mapping, NamedTuple

import numpy as np

from trtyard.core.coco import COCO_80, COCO_90
from trtyard.core.errors import ParityError

BOXES, SCORES, LABELS, COUNT = "boxes", "scores", "labels", "count"
PADDING_LABEL = 0
BOX_OFFSET = 1  # maskrcnn-benchmark's boxes include their last pixel


class Detections(NamedTuple):
    """A detector's detections in one image, best first, without padding rows."""

    boxes: np.ndarray  # [n, 4] x1, y1, x2, y2 in network-input pixels
    scores: np.ndarray  # [n]
    labels: np.ndarray  # [n] integers from 1
    capacity: int  # number of rows of the output, including padding
    numbering: str = COCO_80  # of the labels


def images_in(outputs: Mapping[str, np.ndarray]) -> int:
    """Return B, the number of images in a detector's outputs.

    Raises:
        ParityError: "count" is missing, not one-dimensional or empty.
    """
    count = np.asarray(outputs.get(COUNT, ()))
    if count.ndim != 1 or not count.size:
        raise ParityError(f"no output {COUNT} with one number for each image")
    return count.size


def unpadded(outputs: Mapping[str, np.ndarray], image: int = 0) -> Detections:
    """Return one image's detections from a detector's padded outputs.

    Args:
        outputs: "boxes" [B, D, 4], "scores" [B, D], "labels" [B, D] (0 = padding), "count" [B].
        image: index of the image in the batch.

    Raises:
        ParityError: the outputs break their contract: one is missing or has a wrong shape, the
            count is impossible, a detection has the padding label, or a padding row is not zero.
    """
    missing = [name for name in (BOXES, SCORES, LABELS, COUNT) if name not in outputs]
    if missing:
        raise ParityError("no output named " + ", ".join(missing))
    boxes, scores = np.asarray(outputs[BOXES]), np.asarray(outputs[SCORES])
    labels, counts = np.asarray(outputs[LABELS]), np.asarray(outputs[COUNT])
    if (
        scores.ndim != 2
        or labels.shape != scores.shape
        or boxes.shape != (*scores.shape, 4)
        or counts.shape != scores.shape[:1]
    ):
        raise ParityError(
            f"shapes do not fit: boxes {list(boxes.shape)}, scores {list(scores.shape)}, "
            f"labels {list(labels.shape)}, count {list(counts.shape)}"
        )
    capacity, count = scores.shape[1], int(counts[image])
    if not 0 <= count <= capacity:
        raise ParityError(f"count is {count} with room for {capacity} detections")
    found = Detections(boxes[image, :count], scores[image, :count], labels[image, :count], capacity)
    if (found.labels == PADDING_LABEL).any():
        row = int(np.argmax(found.labels == PADDING_LABEL))
        raise ParityError(f"row {row} of {count} detections has the padding label {PADDING_LABEL}")
    for name, rows in ((BOXES, boxes), (SCORES, scores), (LABELS, labels)):
        if rows[image, count:].any():
            raise ParityError(f"{name} has padding rows (from row {count} on) that are not 0")
    return found


def of_torchvision(outputs: Mapping[str, np.ndarray]) -> Detections:
    """Return the detections from a torchvision detector's outputs for one image.

    Args:
        outputs: "boxes" [n, 4], "scores" [n], "labels" [n]; with "count" [1], the rows from there
            on are padding.

    Raises:
        ParityError: one is missing or has a wrong shape.
    """
    missing = [name for name in (BOXES, SCORES, LABELS) if name not in outputs]
    if missing:
        raise ParityError("no output named " + ", ".join(missing))
    boxes, scores, labels = (np.asarray(outputs[name]) for name in (BOXES, SCORES, LABELS))
    if scores.ndim != 1 or labels.shape != scores.shape or boxes.shape != (*scores.shape, 4):
        raise ParityError(
            f"shapes do not fit: boxes {list(boxes.shape)}, scores {list(scores.shape)}, "
            f"labels {list(labels.shape)}"
        )
    capacity = count = len(scores)
    if COUNT in outputs:
        count = _count_of(outputs, capacity)
        _require_zeros(outputs, count)
    return Detections(boxes[:count], scores[:count], labels[:count], capacity, COCO_90)


def _count_of(outputs: Mapping[str, np.ndarray], capacity: int) -> int:
    found = np.asarray(outputs[COUNT])
    if found.shape != (1,):
        raise ParityError(f"{COUNT} is {list(found.shape)}, not [1]")
    count = int(found[0])
    if not 0 <= count <= capacity:
        raise ParityError(f"count is {count} with room for {capacity} detections")
    return count


def _require_zeros(outputs: Mapping[str, np.ndarray], count: int) -> None:
    """See that every output's rows from ``count`` on are zero."""
    for name, rows in outputs.items():
        if name != COUNT and np.asarray(rows)[count:].any():
            raise ParityError(f"{name} has padding rows (from row {count} on) that are not 0")


def pairwise_iou(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every pair of boxes, float64 [n, m].

    Widths count both edge pixels (x2 - x1 + 1), as the detector's own suppression does: a box
    clipped to one column of pixels has an area. A NaN or infinite coordinate gives 0.
    """
    # A broken runtime may return infinities.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        left, right = left.astype(np.float64)[:, None], right.astype(np.float64)[None]
        width = _extent(
            np.maximum(left[..., 0], right[..., 0]), np.minimum(left[..., 2], right[..., 2])
        )
        height = _extent(
            np.maximum(left[..., 1], right[..., 1]), np.minimum(left[..., 3], right[..., 3])
        )
        overlap = width * height
        return np.nan_to_num(overlap / (_area(left) + _area(right) - overlap))


def _area(boxes: np.ndarray) -> np.ndarray:
    return _extent(boxes[..., 0], boxes[..., 2]) * _extent(boxes[..., 1], boxes[..., 3])


def _extent(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.maximum(last - first + BOX_OFFSET, 0.0)
