"""torchvision's batched_nms as one PaddedNMS node, with the same detections in the same order.

``batched_nms`` suppresses per class. On a CPU it has two ways. Up to 1000 boxes it shifts the boxes
of each class to a place of its own, which rounds their coordinates, and suppresses all at once.
Above, it suppresses class by class. The node suppresses per class in both cases, and gets shifted
boxes in the first, so every overlap is computed from the same numbers.
"""

from typing import Dict, NamedTuple, Tuple

import torch
import torchvision

from trtyard.pipeline.models.static_detectors.static_detector import COUNT
from trtyard.pipeline.ops import padded_nms
from trtyard.pipeline.torch_support.versions import not_negative

# Below every score: of a pair that does not take part.
NO_PAIR = -1.0
# torchvision.ops.boxes.batched_nms: ``boxes.numel() > 4000`` suppresses class by class.
MOST_SHIFTED = 1000
_BOX_OFFSET = 0

Found = Dict[str, torch.Tensor]


class Candidates(NamedTuple):
    """Boxes of which some become detections."""

    boxes: torch.Tensor  # float32 [..., N, 4], clipped
    scores: torch.Tensor  # float32 [..., N]
    labels: torch.Tensor  # int64 [..., N]


def suppress_candidates(
    candidates: Candidates, classes: int, thresholds: Tuple[float, float], rows: int
) -> Found:
    """Return the detections among N candidates of any class, padded.

    Equal scores are in the order of the candidates. torchvision's last sort, above 1000 boxes, may
    swap them. Only a cut between equal scores, at the last row, goes by label first.

    Args:
        candidates: with labels from 0 to ``classes`` - 1.
        classes: C.
        thresholds: of scores and of overlaps; both have to be exceeded.
        rows: K, the most detections.

    Returns:
        "boxes" float32 [K, 4], "scores" float32 [K], "labels" int64 [K], "count" int32 [1].
        Padding is zeros.
    """
    boxes, scores, labels = candidates
    count = boxes.shape[0]
    takes_part = scores > thresholds[0]
    shifted = shifted_boxes(boxes, labels, takes_part)
    every_label = torch.arange(classes, dtype=labels.dtype, device=labels.device)[:, None]
    no_pair = torch.full((1, 1), NO_PAIR, dtype=scores.dtype, device=scores.device)
    by_class = torch.where(labels[None] == every_label, scores[None], no_pair)
    indices, kept = padded_nms(
        shifted[None, None], by_class[None], thresholds[1], thresholds[0], rows, _BOX_OFFSET
    )
    found = indices[0] >= 0
    pair = not_negative(indices[0])
    candidate = pair - whole_quotient(pair, count) * count
    chosen = torch.index_select(scores, 0, candidate)
    order = _order(chosen, candidate, found, count, rows)
    candidate = torch.index_select(candidate, 0, order)
    padded = _padded(candidates, candidate, found, kept)
    # The TorchScript exporter of row 8.6 does not know the shape otherwise.
    padded["boxes"] = padded["boxes"].reshape(rows, 4)
    return padded


def suppress_by_class(candidates: Candidates, thresholds: Tuple[float, float], rows: int) -> Found:
    """Return the detections among C times N candidates that are grouped by class, padded.

    Equal scores are in the order of the classes, then of the candidates, as in torchvision.

    Args:
        candidates: each row has one label.
        thresholds: of scores and of overlaps; both have to be exceeded.
        rows: K, the most detections.

    Returns:
        as ``suppress_candidates``.
    """
    boxes, scores, labels = candidates
    shifted = shifted_boxes(boxes, labels, scores > thresholds[0])
    indices, kept = padded_nms(
        shifted[None], scores[None], thresholds[1], thresholds[0], rows, _BOX_OFFSET
    )
    at = not_negative(indices[0])
    flat = Candidates(boxes.reshape(-1, 4), scores.reshape(-1), labels.reshape(-1))
    return _padded(flat, at, indices[0] >= 0, kept)


def shifted_boxes(
    boxes: torch.Tensor, labels: torch.Tensor, takes_part: torch.Tensor
) -> torch.Tensor:
    """Return the boxes of which torchvision computes the overlaps.

    Args:
        boxes: float32 [..., 4].
        labels: int64 [...].
        takes_part: bool [...]; other boxes are arbitrary.
    """
    largest = torch.where(takes_part[..., None], boxes, torch.zeros_like(boxes)).max()
    offsets = labels.to(boxes.dtype) * (largest + 1.0)
    moved = boxes + offsets[..., None]
    if not hasattr(torchvision.ops.boxes, "_batched_nms_vanilla"):
        return moved  # torchvision 0.5 shifts any number of boxes
    is_shifted = takes_part.to(boxes.dtype).sum() <= MOST_SHIFTED
    return torch.where(is_shifted, moved, boxes)


def _order(
    scores: torch.Tensor, candidate: torch.Tensor, found: torch.Tensor, count: int, rows: int
) -> torch.Tensor:
    """Return the order of the kept rows: by descending score, then by candidate, padding last.

    PaddedNMS orders equal scores by class first. Every row is compared with every other, because
    sorting breaks ties differently in each runtime.

    Args:
        scores: float32 [K].
        candidate: integers [K], all different but for padding.
        found: bool [K], false for padding.
        count: the number of candidates.
        rows: K, as a Python number.

    Returns:
        int64 [K].
    """
    place = torch.arange(rows, dtype=torch.int64, device=scores.device)
    score = torch.where(found, scores, torch.full_like(scores, NO_PAIR))
    number = torch.where(found, candidate.to(torch.int64), place + count)
    is_same = score[:, None] == score[None]
    is_before = (score[:, None] > score[None]) | (is_same & (number[:, None] < number[None]))
    rank = is_before.to(torch.float32).sum(dim=0).to(torch.int64)
    is_at = (rank[None] == place[:, None]).to(torch.float32)
    return (is_at * place.to(torch.float32)[None]).sum(dim=1).to(torch.int64)


def _padded(
    candidates: Candidates, rows: torch.Tensor, found: torch.Tensor, count: torch.Tensor
) -> Found:
    def taken(table: torch.Tensor) -> torch.Tensor:
        values = torch.index_select(table, 0, rows)
        keep = found[:, None] if values.dim() > 1 else found
        return torch.where(keep, values, torch.zeros_like(values))

    boxes, scores, labels = candidates
    return {"boxes": taken(boxes), "scores": taken(scores), "labels": taken(labels), COUNT: count}


def whole_quotient(values: torch.Tensor, divisor: int) -> torch.Tensor:
    """Return integers divided by ``divisor`` and rounded down, of the same type.

    In floats, because exporters and runtimes divide integers in different ways. The half keeps the
    quotient of a multiple away from the next lower number.

    Args:
        values: integers from 0 to 2**22.
        divisor: from 1.
    """
    return torch.floor((values.to(torch.float32) + 0.5) / divisor).to(values.dtype)
