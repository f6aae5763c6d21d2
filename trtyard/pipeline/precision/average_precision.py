"""mAP of one runtime's detections, with another's in place of the true ones."""

from typing import List, Sequence, Tuple

import numpy as np

from trtyard.pipeline.parity.padded import Detections, pairwise_iou

# COCO's: the mean over these overlaps, and of the precision at these recalls.
OVERLAPS = tuple(0.5 + 0.05 * step for step in range(10))
_RECALLS = np.linspace(0.0, 1.0, 101)


def mean_average_precision(pairs: Sequence[Tuple[Detections, Detections]]) -> float:
    """Return COCO's mAP, 0 to 1, of the second of each pair against the first.

    Args:
        pairs: the reference's and the candidate's detections of each image.
    """
    labels = sorted({int(label) for reference, _ in pairs for label in reference.labels})
    if not labels:
        return 1.0 if not any(len(candidate.scores) for _, candidate in pairs) else 0.0
    values = [_average_precision(pairs, label, overlap) for label in labels for overlap in OVERLAPS]
    return float(np.mean(values))


def _average_precision(
    pairs: Sequence[Tuple[Detections, Detections]], label: int, overlap: float
) -> float:
    rows: List[Tuple[float, bool]] = []
    wanted = 0
    for reference, candidate in pairs:
        truth = reference.boxes[reference.labels == label]
        chosen = np.flatnonzero(candidate.labels == label)
        wanted += len(truth)
        iou = pairwise_iou(candidate.boxes[chosen], truth)
        free = np.ones(len(truth), dtype=bool)
        for row in np.argsort(-candidate.scores[chosen], kind="stable"):
            best = int(np.argmax(np.where(free, iou[row], -1.0))) if free.any() else -1
            hit = best >= 0 and bool(iou[row, best] >= overlap)
            if hit:
                free[best] = False
            rows.append((float(candidate.scores[chosen[row]]), hit))
    rows.sort(key=lambda one: -one[0])
    hits = np.cumsum([hit for _score, hit in rows])
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / wanted, _RECALLS, side="left")
    return float(np.mean([precision[place] if place < len(hits) else 0.0 for place in places]))
