"""The candidates of a feature pyramid's levels, as RetinaNet and FCOS choose them.

All levels are handled together where that gives the same numbers, because the time of an export
depends on the number of operations.
"""

from typing import Any, Callable, List, Mapping, Sequence, Tuple

import torch
from torchvision.ops import boxes as box_ops

from trtyard.pipeline.models.faster_rcnn.selection import highest, top_k
from trtyard.pipeline.models.static_detectors.shared import plain_size, with_rows
from trtyard.pipeline.models.static_detectors.suppression import (
    NO_PAIR,
    Candidates,
    Found,
    suppress_candidates,
    whole_quotient,
)


def detect(
    detector: Any,
    scores: Sequence[torch.Tensor],
    head_outputs: Mapping[str, Sequence[torch.Tensor]],
    anchors: Sequence[Sequence[torch.Tensor]],
    decode: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    size: Tuple[int, int],
) -> List[Found]:
    """Return the padded detections in one image.

    Args:
        detector: the RetinaNet or FCOS, with its limits.
        scores: of each level, float32 [A, C], none below 0.
        head_outputs: with "bbox_regression" of each level, float32 [1, A, 4].
        anchors: of one image, per level, float32 [A, 4].
        decode: returns boxes [K, 4] of deltas [K, 4] and anchors [K, 4].
        size: (height, width) of the image.
    """
    candidates = best_candidates(
        scores,
        torch.cat(head_outputs["bbox_regression"], dim=1)[0],
        torch.cat(anchors[0]),
        detector.topk_candidates,
        decode,
        size,
    )
    classes = plain_size(scores[0])[1]
    thresholds = detector.score_thresh, detector.nms_thresh
    return [suppress_candidates(candidates, classes, thresholds, detector.detections_per_img)]


def best_candidates(
    scores: Sequence[torch.Tensor],
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    keep: int,
    decode: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    size: Tuple[int, int],
) -> Candidates:
    """Return the ``keep`` highest scores of each level; of equal ones those with the lower index.

    torchvision takes the highest of all anchors times classes, which may be millions. These lie in
    the ``keep`` anchors whose own highest scores are the highest, so two small choices give the
    same pairs. torchvision removes low scores before; here ``suppress_candidates`` does it
    afterwards, with the same result, because they are last.

    Args:
        scores: of each level, float32 [A, C], none below 0.
        deltas: of all levels, float32 [N, 4].
        anchors: of all levels, float32 [N, 4].
        keep: at most this many pairs of a level.
        decode: returns boxes [K, 4] of deltas [K, 4] and anchors [K, 4].
        size: (height, width) of the picture, which clips the boxes.

    Returns:
        the same number of pairs for each level. A level with fewer pairs has padding, whose score
        is below every threshold.
    """
    counts = [plain_size(each)[0] for each in scores]
    classes = plain_size(scores[0])[1]
    rows = [min(keep, count) for count in counts]
    most = max(rows)
    pairs, places = [], []
    first = 0
    for each, count, kept in zip(scores, counts, rows):
        if kept < count:
            place = _best_anchors(each, count, kept)
            each = torch.index_select(each, 0, place)
        else:
            place = torch.arange(count, dtype=torch.int64, device=each.device)
        missing = most - kept
        pairs.append(with_rows(each.reshape(-1), missing * classes, NO_PAIR))
        places.append(with_rows(place + first, missing, 0))
        first += count
    table = torch.stack(pairs)
    best = highest(table, most * classes, min(keep, most * classes))
    row = whole_quotient(best, classes)
    level = torch.arange(len(pairs), dtype=row.dtype, device=row.device)[:, None] * most
    place = torch.index_select(torch.cat(places), 0, (row + level).reshape(-1))
    boxes = decode(torch.index_select(deltas, 0, place), torch.index_select(anchors, 0, place))
    return Candidates(
        box_ops.clip_boxes_to_image(boxes, size),
        torch.gather(table, 1, best).reshape(-1),
        (best - row * classes).reshape(-1),
    )


def _best_anchors(scores: torch.Tensor, count: int, keep: int) -> torch.Tensor:
    """Return the indices of the anchors with the highest scores, in ascending order, int64 [keep].

    Args:
        scores: float32 [count, C].
        count: a Python number.
        keep: below ``count``.
    """
    rows = highest(scores.max(dim=1)[0][None], count, keep)
    # In order, so that the pairs' own order is that of the level.
    return count - top_k((count - rows).to(torch.float32), keep)[0].to(torch.int64)[0]
