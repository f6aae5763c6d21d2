"""The same detector with dynamic shapes: boxes are removed, not masked.

For comparison, in eager mode only. It shares the layers with weights (backbone, heads) with the
static form. Everything else is written a second time here, as simply as possible: anchors,
decoding, clipping, suppression and selection.
"""

import math
from typing import List, NamedTuple, Tuple

import torch
import torchvision

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN


class Detections(NamedTuple):
    """The detections in one image."""

    boxes: torch.Tensor  # float32 [D, 4]
    scores: torch.Tensor  # float32 [D], descending
    labels: torch.Tensor  # int64 [D]
    proposals: torch.Tensor  # float32 [P, 4], by descending objectness


def detect(network: FasterRCNN, images: torch.Tensor, top_n: int = c.PROPOSALS) -> List[Detections]:
    """Detect in each of the images [B, 3, H, W], without any padding."""
    height, width = images.shape[2:]
    with torch.no_grad():
        features = network.backbone(images)
        logits, deltas = network.rpn.head(features)
        found = []
        for index in range(len(images)):
            proposals = _propose(logits[index], deltas[index], height, width, top_n)
            found.append(
                _detect_one(network, features[index : index + 1], proposals, (height, width))
            )
    return found


def _propose(
    logits: torch.Tensor, deltas: torch.Tensor, height: int, width: int, top_n: int
) -> torch.Tensor:
    """Return the proposals [P, 4] of one image from logits [15, H, W] and deltas [60, H, W]."""
    per_cell, rows, columns = logits.shape
    anchors, scores, codes = [], [], []
    first_cell = _cell_anchors()
    probability = logits.sigmoid()
    for row in range(rows):
        for column in range(columns):
            shift = torch.tensor([column, row, column, row]) * c.STRIDE
            anchors.append(first_cell + shift)
            scores.append(probability[:, row, column])
            codes.append(deltas[:, row, column].reshape(per_cell, 4))
    order = torch.sort(torch.cat(scores), descending=True, stable=True)[1][: c.CANDIDATES]
    boxes = _decode(torch.cat(codes)[order], torch.cat(anchors)[order], c.PROPOSAL_WEIGHTS)
    boxes = _clip(boxes, height, width)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    boxes = boxes[(sides >= c.PROPOSAL_MINIMUM_SIDE).all(dim=1)]
    return boxes[_suppress(boxes, c.PROPOSAL_IOU, top_n)]


def _detect_one(
    network: FasterRCNN, features: torch.Tensor, proposals: torch.Tensor, size: Tuple[int, int]
) -> Detections:
    head = network.roi_heads["box"]
    pooled = torchvision.ops.roi_align(
        features, [proposals], (c.POOLED_SIDE, c.POOLED_SIDE), 1.0 / c.STRIDE, -1, False
    )
    logits, codes = head.predictor(head.feature_extractor(pooled))
    scores = logits.softmax(dim=1)
    found = []
    for label in range(1, c.CLASSES):
        above = (scores[:, label] > c.SCORE_THRESHOLD).nonzero(as_tuple=True)[0]
        of_class = codes[above, label * 4 : label * 4 + 4]
        boxes = _clip(_decode(of_class, proposals[above], c.DETECTION_WEIGHTS), *size)
        by_score = torch.sort(scores[above, label], descending=True, stable=True)[1]
        kept = by_score[_suppress(boxes[by_score], c.DETECTION_IOU, len(boxes))]
        # Equal scores are already in the order of the proposals.
        found += [(float(scores[above[k], label]), label, boxes[k]) for k in kept.tolist()]
    # The sort is stable and the classes are in order, so equal scores are ordered by class.
    found = sorted(found, key=lambda one: -one[0])[: c.DETECTIONS]
    return Detections(
        boxes=torch.stack([one[2] for one in found]) if found else torch.zeros(0, 4),
        scores=torch.tensor([one[0] for one in found]),
        labels=torch.tensor([one[1] for one in found], dtype=torch.int64),
        proposals=proposals,
    )


def _cell_anchors() -> torch.Tensor:
    rows = []
    for ratio in c.ANCHOR_RATIOS:
        width = round(math.sqrt(c.STRIDE * c.STRIDE / ratio))
        height = round(width * ratio)
        for size in c.ANCHOR_SIZES:
            factor = size // c.STRIDE
            left = (c.STRIDE - 1) / 2 - (width * factor - 1) / 2
            top = (c.STRIDE - 1) / 2 - (height * factor - 1) / 2
            rows.append([left, top, left + width * factor - 1, top + height * factor - 1])
    return torch.tensor(rows)


def _decode(
    codes: torch.Tensor, boxes: torch.Tensor, weights: Tuple[float, float, float, float]
) -> torch.Tensor:
    """Return boxes [N, 4] from codes [N, 4], coordinate by coordinate."""
    widths = boxes[:, 2] - boxes[:, 0] + 1
    heights = boxes[:, 3] - boxes[:, 1] + 1
    center_x = codes[:, 0] / weights[0] * widths + (boxes[:, 0] + 0.5 * widths)
    center_y = codes[:, 1] / weights[1] * heights + (boxes[:, 1] + 0.5 * heights)
    new_widths = (codes[:, 2] / weights[2]).clamp(max=math.log(1000 / 16)).exp() * widths
    new_heights = (codes[:, 3] / weights[3]).clamp(max=math.log(1000 / 16)).exp() * heights
    left, top = center_x - 0.5 * new_widths, center_y - 0.5 * new_heights
    right, bottom = center_x + 0.5 * new_widths - 1, center_y + 0.5 * new_heights - 1
    return torch.stack((left, top, right, bottom), dim=1)


def _clip(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack(
        (
            x1.clamp(0, width - 1),
            y1.clamp(0, height - 1),
            x2.clamp(0, width - 1),
            y2.clamp(0, height - 1),
        ),
        dim=1,
    )


def _suppress(boxes: torch.Tensor, threshold: float, limit: int) -> torch.Tensor:
    """Return the positions of the kept boxes, for boxes [N, 4] sorted by descending score."""
    kept_boxes = boxes.new_zeros((0, 4))
    kept: List[int] = []
    for position, box in enumerate(boxes):
        sides = torch.minimum(box[2:], kept_boxes[:, 2:]) - torch.maximum(
            box[:2], kept_boxes[:, :2]
        )
        shared = (sides + 1).clamp(min=0).prod(dim=1)
        union = _area(box[None]) + _area(kept_boxes) - shared
        if bool((shared / union > threshold).any()):
            continue
        kept.append(position)
        if len(kept) == limit:
            break
        kept_boxes = boxes[kept]
    return torch.tensor(kept, dtype=torch.int64)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1)
