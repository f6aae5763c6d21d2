"""The candidates of one level of a feature pyramid, as RetinaNet and FCOS choose them."""

from typing import NamedTuple, Sequence, Tuple

import torch

from trtyard.pipeline.models.faster_rcnn.selection import highest, top_k
from trtyard.pipeline.models.static_detectors.shared import plain_size
from trtyard.pipeline.models.static_detectors.suppression import Candidates, whole_quotient


class Chosen(NamedTuple):
    """The pairs of anchor and class with the highest scores of a level."""

    anchors: torch.Tensor  # int64 [k]
    labels: torch.Tensor  # int64 [k]
    scores: torch.Tensor  # float32 [k]


def chosen_pairs(scores: torch.Tensor, keep: int) -> Chosen:
    """Return the ``keep`` highest scores; of equal ones those with the lower index.

    torchvision takes the highest of all anchors times classes, which may be millions. These lie in
    the ``keep`` anchors whose own highest scores are the highest, so two small choices give the
    same pairs. torchvision removes low scores before; here ``suppress_candidates`` does it
    afterwards, with the same result, because they are last.

    Args:
        scores: float32 [anchors, classes], none below 0.
        keep: at most this many.
    """
    count, classes = plain_size(scores)
    kept = min(keep, count)
    if kept < count:
        rows = highest(scores.max(dim=1)[0][None], count, kept)
        # In order, so that the pairs' own order is that of the level.
        rows = count - top_k((count - rows).to(torch.float32), kept)[0].to(torch.int64)[0]
        scores = torch.index_select(scores, 0, rows)
    else:
        rows = torch.arange(count, dtype=torch.int64, device=scores.device)
    pairs = scores.reshape(1, kept * classes)
    best = highest(pairs, kept * classes, min(keep, kept * classes))[0]
    row = whole_quotient(best, classes)
    return Chosen(
        torch.index_select(rows, 0, row),
        best - row * classes,
        torch.index_select(pairs[0], 0, best),
    )


def joined(parts: Sequence[Tuple[torch.Tensor, Chosen]]) -> Candidates:
    """Return the candidates of all levels, from each level's boxes [k, 4] and its pairs."""
    return Candidates(
        torch.cat([boxes for boxes, _ in parts]),
        torch.cat([chosen.scores for _, chosen in parts]),
        torch.cat([chosen.labels for _, chosen in parts]),
    )
