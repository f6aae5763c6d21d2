"""The box head: proposals to labelled detections, all of fixed size."""

from collections import OrderedDict
from typing import Tuple

import torch
from torch import nn
from torch.nn import functional

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.boxes import clip, decode, last_pixels
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.selection import take_rows
from trtyard.pipeline.ops import padded_nms, roi_align
from trtyard.pipeline.torch_support.versions import keep_beside_weights, not_negative

# The score of padded proposals. Real scores are in 0..1.
_REMOVED = -1.0
_PADDED_ROI = -1

Padded = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Predictor(nn.Module):
    """Computes class logits, and a box for each class, from the fifth stage's average."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(c.HEAD_CHANNELS, c.CLASSES)
        self.bbox_pred = nn.Linear(c.HEAD_CHANNELS, c.CLASSES * 4)

    def forward(self, pooled: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Turn [R, 2048, 7, 7] into logits [R, 81] and deltas [R, 324]."""
        x = functional.adaptive_avg_pool2d(pooled, 1).flatten(1)
        return self.cls_score(x), self.bbox_pred(x)


class BoxHead(nn.Module):
    """Turns proposals into detections, padded to 100 for each image."""

    def __init__(self, shape: ImageShape, proposals: int, fifth_stage: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.proposals = proposals
        keep_beside_weights(self, "last_pixels", last_pixels(shape.height, shape.width))
        self.feature_extractor = nn.Sequential(OrderedDict([("head", fifth_stage)]))
        self.predictor = Predictor()

    def forward(self, features: torch.Tensor, boxes: torch.Tensor, alive: torch.Tensor) -> Padded:
        """Return the detections in each image, padded to 100.

        Args:
            features: float32 [B, 1024, H, W].
            boxes: float32 [B, P, 4].
            alive: bool [B, P], false for padding.

        Returns:
            boxes: float32 [B, 100, 4], clipped, by descending score; padding is zeros.
            scores: float32 [B, 100].
            labels: int32 [B, 100], 1 to 80.
            count: int32 [B].
        """
        logits, deltas = self.predictor(self._features_of(features, boxes, alive))
        every_score = self._scores(logits, alive)
        every_box = self._boxes(deltas, boxes)
        rows, count = padded_nms(
            every_box,
            every_score,
            c.DETECTION_IOU,
            c.SCORE_THRESHOLD,
            c.DETECTIONS,
            c.BOX_OFFSET,
        )
        return (*self._chosen(every_box, every_score, rows), count)

    def _features_of(
        self, features: torch.Tensor, boxes: torch.Tensor, alive: torch.Tensor
    ) -> torch.Tensor:
        """Return [B * P, 2048, 7, 7]."""
        images = self.shape.batch_of(features)
        image = torch.arange(images, dtype=torch.int32, device=alive.device)[:, None]
        image = torch.where(alive, image, torch.full_like(image, _PADDED_ROI))
        # No variable for the pooled features: at a thousand proposals they take 800 MB, and a
        # variable would keep them alive during the stage's three blocks.
        return self.feature_extractor(
            roi_align(
                features,
                boxes.reshape(-1, 4),
                image.reshape(-1),
                c.POOLED_SIDE,
                c.POOLED_SIDE,
                1.0 / c.STRIDE,
                c.SAMPLING_RATIO,
                c.ALIGNED,
            )
        )

    def _scores(self, logits: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        """Return scores [B, 80, P] without the background; padding is below every threshold."""
        scores = torch.softmax(logits, dim=-1)[:, 1:]
        images = self.shape.batch_of(alive)
        scores = scores.reshape(images, self.proposals, c.CLASSES - 1).permute(0, 2, 1)
        return torch.where(alive[:, None], scores, torch.full_like(scores, _REMOVED))

    def _boxes(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return [B, 80, P, 4], clipped."""
        images = self.shape.batch_of(boxes)
        deltas = deltas.reshape(images, self.proposals, c.CLASSES, 4)[:, :, 1:]
        every_box = decode(deltas.permute(0, 2, 1, 3), boxes[:, None], c.DETECTION_WEIGHTS)
        return clip(every_box, self.last_pixels)

    def _chosen(
        self, every_box: torch.Tensor, every_score: torch.Tensor, rows: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = self.shape.batch
        found = rows >= 0
        at = not_negative(rows)
        images = self.shape.batch_of(rows)
        boxes = take_rows(every_box.reshape(images, -1, 4), at, batch)
        scores = take_rows(every_score.reshape(images, -1), at, batch)
        labels = take_rows(self._every_label(rows.device, images), at, batch)
        return (
            torch.where(found[..., None], boxes, torch.zeros_like(boxes)),
            torch.where(found, scores, torch.zeros_like(scores)),
            torch.where(found, labels, torch.zeros_like(labels)),
        )

    def _every_label(self, device: torch.device, images: int) -> torch.Tensor:
        """Return labels, int32 [B, 80 * P].

        A table, because exporters divide integers as floats.
        """
        labels = torch.arange(1, c.CLASSES, dtype=torch.int32, device=device)[:, None]
        table = labels.expand(c.CLASSES - 1, self.proposals).reshape(1, -1)
        # Not -1, which torch 1.4 writes into the file's Expand.
        return table.expand(images, (c.CLASSES - 1) * self.proposals)
