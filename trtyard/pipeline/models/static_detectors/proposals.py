"""The static form of torchvision's region proposal network."""

from typing import Any, Dict, List, NamedTuple, Tuple

import torch

from trtyard.pipeline.models.faster_rcnn.selection import highest, take_rows
from trtyard.pipeline.models.static_detectors.order import descending_in_turn
from trtyard.pipeline.models.static_detectors.padded_boxes import (
    NO_SCORE,
    clipped,
    large_enough,
    with_padding,
)
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import with_rows
from trtyard.pipeline.models.static_detectors.suppression import shifted_boxes
from trtyard.pipeline.ops import padded_nms
from trtyard.pipeline.torch_support.versions import not_negative, untraced

Proposals = Tuple[List[torch.Tensor], Dict[str, torch.Tensor]]


def propose(self: Any, images: Any, features: Any, _targets: Any = None) -> Proposals:
    """Return the proposals for one image, in place of ``RegionProposalNetwork.forward``.

    Of equal logits the anchor with the lower index comes first; torch.topk defines no order.

    Args:
        self: the network, in eval mode.
        images: an ImageList of one image.
        features: by name, float32 [1, C, H, W] of each level.

    Returns:
        boxes: a list with one tensor, float32 [P, 4], by descending objectness, then padding.
        losses: empty.
    """
    (size,) = images.image_sizes
    maps = list(features.values())
    logits, deltas = self.head(maps)
    (anchors,) = self.anchor_generator(images, maps)
    levels = []
    first = 0
    for level_logits, level_deltas in zip(logits, deltas):
        per_cell, rows, columns = _sizes(level_logits)
        count = per_cell * rows * columns
        flat = level_logits.permute(0, 2, 3, 1).reshape(1, count)
        codes = level_deltas.reshape(per_cell, 4, rows, columns).permute(2, 3, 0, 1)
        keep = min(self.pre_nms_top_n(), count)
        chosen = highest(flat, count, keep)
        boxes = self.box_coder.decode_single(
            take_rows(codes.reshape(1, count, 4), chosen, 1)[0],
            take_rows(anchors[None, first : first + count], chosen, 1)[0],
        )
        levels.append(_Level(keep, clipped(boxes, *size), take_rows(flat, chosen, 1)[0]))
        first += count
    return [_suppressed(self, levels)], {}


class _Level(NamedTuple):
    """The candidates of one feature map."""

    rows: int  # N
    boxes: torch.Tensor  # float32 [N, 4], clipped
    logits: torch.Tensor  # float32 [N]


def _suppressed(network: Any, levels: List[_Level]) -> torch.Tensor:
    """Return the kept boxes of all levels, float32 [P, 4].

    torchvision orders them by the logits' sigmoid, which several logits may share, then by level,
    then by logit.
    """
    longest = max(level.rows for level in levels)
    logits = torch.stack(
        [with_rows(level.logits, longest - level.rows, NO_SCORE) for level in levels]
    )
    boxes = torch.stack([with_rows(level.boxes, longest - level.rows, 0.0) for level in levels])
    order = descending_in_turn(logits, torch.zeros_like(logits[:1]), longest)
    logits = take_rows(logits, order, len(levels))
    boxes = take_rows(boxes, order, len(levels))
    scores, taking_part = _scores(network, logits)
    taking_part = taking_part & large_enough(boxes, network.min_size)
    scores = torch.where(taking_part, scores, torch.full_like(scores, NO_SCORE))
    numbers = torch.arange(len(levels), device=boxes.device)[:, None]
    compared = shifted_boxes(boxes, numbers, taking_part)
    keep = min(network.post_nms_top_n(), sum(level.rows for level in levels))
    rows, _ = padded_nms(compared[None], scores[None], network.nms_thresh, NO_SCORE, keep, 0)
    kept = take_rows(boxes.reshape(1, -1, 4), not_negative(rows), 1)[0]
    return with_padding(kept, rows[0] >= 0)


def _scores(network: Any, logits: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the scores that torchvision suppresses by, and which of them are high enough."""
    is_candidate = logits > NO_SCORE
    if not hasattr(network, "score_thresh"):  # torchvision 0.5
        return logits, is_candidate
    scores = torch.sigmoid(logits)
    return scores, is_candidate & (scores >= network.score_thresh)


def _sizes(values: torch.Tensor) -> Tuple[int, int, int]:
    """Return C, H and W of [1, C, H, W] as numbers, which a trace does not follow."""
    with untraced():
        _, channels, height, width = (int(each) for each in values.shape)
    return channels, height, width


PROPOSALS = Rewrite(
    "torchvision.models.detection.rpn.RegionProposalNetwork.forward",
    {
        "0.5": "0e5d84b79219",
        "0.17": "8ef29509fd8d",
        "0.27": "d2d4173d08bc",
        "0.28": "d2d4173d08bc",
    },
    propose,
)
