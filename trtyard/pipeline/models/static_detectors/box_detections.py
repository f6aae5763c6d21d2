"""The static form of torchvision's box head: proposals to detections of fixed number."""

from typing import Any, List, Tuple

import torch

from trtyard.pipeline.models.faster_rcnn.selection import take_rows
from trtyard.pipeline.models.static_detectors.order import descending_in_turn
from trtyard.pipeline.models.static_detectors.padded_boxes import (
    NO_SCORE,
    clipped,
    is_box,
    large_enough,
    with_padding,
)
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.suppression import shifted_boxes
from trtyard.pipeline.ops import padded_nms
from trtyard.pipeline.torch_support.versions import not_negative

_SMALLEST_SIDE = 1e-2  # as in postprocess_detections

Detections = Tuple[List[torch.Tensor], List[torch.Tensor], List[torch.Tensor]]


def detect(
    self: Any,
    class_logits: torch.Tensor,
    box_regression: torch.Tensor,
    proposals: List[torch.Tensor],
    image_shapes: List[Tuple[int, int]],
) -> Detections:
    """Return one image's detections, in place of ``RoIHeads.postprocess_detections``.

    Args:
        self: the heads, in eval mode.
        class_logits: float32 [P, C], with the background as class 0.
        box_regression: float32 [P, C * 4].
        proposals: a list with one tensor, float32 [P, 4], with padding.
        image_shapes: a list with one (height, width).

    Returns:
        Lists with one tensor each, by descending score: boxes float32 [N, 4], scores float32 [N]
        and labels int64 [N]. N is ``detections_per_img``. Padding has label and score 0.
    """
    (boxes,), (size,) = proposals, image_shapes
    count, classes = boxes.shape[0], class_logits.shape[1]
    every_box = self.box_coder.decode_single(box_regression, boxes).reshape(count, classes, 4)
    every_box = clipped(every_box, *size)[:, 1:].permute(1, 0, 2)
    scores = torch.softmax(class_logits, -1)[:, 1:].permute(1, 0)
    taking_part = (scores > self.score_thresh) & large_enough(every_box, _SMALLEST_SIDE)
    taking_part = taking_part & is_box(boxes)[None]
    labels = torch.arange(1, classes, device=boxes.device)[:, None]
    compared = shifted_boxes(every_box, labels, taking_part)
    rows, _ = padded_nms(
        compared[None],
        torch.where(taking_part, scores, torch.full_like(scores, NO_SCORE))[None],
        self.nms_thresh,
        self.score_thresh,
        self.detections_per_img,
        0,
    )
    all_scores = scores.reshape(1, -1)
    rows = _in_torchvisions_order(rows, all_scores, count, self.detections_per_img)
    found, at = rows[0] >= 0, not_negative(rows)
    score = take_rows(all_scores, at, 1)[0]
    label = take_rows(labels.expand(classes - 1, count).reshape(1, -1), at, 1)[0]
    return (
        [with_padding(take_rows(every_box.reshape(1, -1, 4), at, 1)[0], found)],
        [torch.where(found, score, torch.zeros_like(score))],
        [torch.where(found, label, torch.zeros_like(label))],
    )


def _in_torchvisions_order(
    rows: torch.Tensor, scores: torch.Tensor, proposals: int, keep: int
) -> torch.Tensor:
    """Return PaddedNMS's rows with equal scores ordered by proposal, then by class.

    PaddedNMS orders them by class, then by proposal.

    Args:
        rows: int32 [1, keep], each ``class * proposals + proposal``, or -1.
        scores: float32 [1, classes * proposals].
        proposals: number of them.
        keep: number of rows.
    """
    classes_first = torch.arange(scores.shape[1], dtype=scores.dtype, device=scores.device)
    turns = classes_first.reshape(proposals, -1).permute(1, 0).reshape(1, -1)
    at = not_negative(rows)
    kept = take_rows(scores, at, 1)
    kept = torch.where(rows >= 0, kept, torch.full_like(kept, NO_SCORE))
    return take_rows(rows, descending_in_turn(kept, take_rows(turns, at, 1), keep), 1)


BOX_DETECTIONS = Rewrite(
    "torchvision.models.detection.roi_heads.RoIHeads.postprocess_detections",
    {
        "0.5": "5e90746966db",
        "0.17": "5c8de78dabbc",
        "0.27": "ad194bab1121",
        "0.28": "ad194bab1121",
    },
    detect,
)
