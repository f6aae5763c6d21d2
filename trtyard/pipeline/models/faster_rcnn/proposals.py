"""The region proposal network, with padding where other implementations remove boxes."""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.anchors import grid_anchors
from trtyard.pipeline.models.faster_rcnn.boxes import clip, decode, last_pixels
from trtyard.pipeline.models.faster_rcnn.selection import highest, take_rows
from trtyard.pipeline.ops import padded_nms
from trtyard.pipeline.torch_support.versions import keep_beside_weights, not_negative, smallest

# The score of removed boxes. Objectness is in 0..1.
_REMOVED = -1.0
_KEEP_ABOVE = -0.5


class ImageShape(NamedTuple):
    """The input shape of a static detector: B images of H by W pixels."""

    batch: Optional[int]  # None for any number of images
    height: int
    width: int

    def batch_of(self, images: torch.Tensor) -> int:
        """Return B: the plain number, or if it varies the first size of a tensor that has it.

        In a trace the latter is part of the graph.
        """
        return images.shape[0] if self.batch is None else self.batch

    @property
    def cells(self) -> Tuple[int, int]:
        """Rows and columns of the feature map."""
        return -(-self.height // c.STRIDE), -(-self.width // c.STRIDE)

    @property
    def anchors(self) -> int:
        """Anchors of one image."""
        rows, columns = self.cells
        return rows * columns * c.ANCHORS_PER_CELL


class ProposalHead(nn.Module):
    """Computes objectness and box deltas for each anchor of each cell."""

    def __init__(self) -> None:
        super().__init__()
        channels = c.FEATURE_CHANNELS
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.cls_logits = nn.Conv2d(channels, c.ANCHORS_PER_CELL, kernel_size=1)
        self.bbox_pred = nn.Conv2d(channels, c.ANCHORS_PER_CELL * 4, kernel_size=1)

    def forward(self, features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Turn [B, 1024, H, W] into logits [B, 15, H, W] and deltas [B, 60, H, W]."""
        hidden = functional.relu(self.conv(features))
        return self.cls_logits(hidden), self.bbox_pred(hidden)


class AnchorGenerator(nn.Module):
    """The anchors of one feature map: a constant that is not part of the weights."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        keep_beside_weights(self, "grid", grid_anchors(*shape.cells))


class RegionProposalNetwork(nn.Module):
    """Turns features into proposals, padded to a fixed number for each image."""

    def __init__(self, shape: ImageShape, top_n: int) -> None:
        super().__init__()
        self.shape = shape
        self.candidates = min(c.CANDIDATES, shape.anchors)
        self.top_n = min(top_n, self.candidates)
        keep_beside_weights(self, "last_pixels", last_pixels(shape.height, shape.width))
        self.anchor_generator = AnchorGenerator(shape)
        self.head = ProposalHead()

    def forward(self, features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the proposals of each image, padded.

        Args:
            features: float32 [B, 1024, H, W].

        Returns:
            boxes: float32 [B, P, 4], clipped, by descending objectness; padding is arbitrary.
            alive: bool [B, P], false for padding, which comes last.
            count: int32 [B], number of proposals that are not padding.
        """
        batch = self.shape.batch
        images = self.shape.batch_of(features)
        scores, deltas = self._by_anchor(features)
        chosen = highest(scores, self.shape.anchors, self.candidates)
        scores = take_rows(scores, chosen, batch)
        deltas = take_rows(deltas, chosen, batch)
        anchors = torch.index_select(self.anchor_generator.grid, 0, chosen.reshape(-1))
        boxes = decode(deltas, anchors.reshape(images, -1, 4), c.PROPOSAL_WEIGHTS)
        boxes = clip(boxes, self.last_pixels)
        scores = torch.where(_large_enough(boxes), scores, torch.full_like(scores, _REMOVED))
        rows, count = padded_nms(
            boxes[:, None], scores[:, None], c.PROPOSAL_IOU, _KEEP_ABOVE, self.top_n, c.BOX_OFFSET
        )
        alive = rows >= 0
        return take_rows(boxes, not_negative(rows), batch), alive, count

    def _by_anchor(self, features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return objectness [B, N] and deltas [B, N, 4], in the order of the anchors."""
        batch, (rows, columns) = self.shape.batch_of(features), self.shape.cells
        logits, deltas = self.head(features)
        scores = torch.sigmoid(logits.permute(0, 2, 3, 1).reshape(batch, -1))
        deltas = deltas.reshape(batch, c.ANCHORS_PER_CELL, 4, rows, columns)
        return scores, deltas.permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)


def _large_enough(boxes: torch.Tensor) -> torch.Tensor:
    sides = boxes[..., 2:] - boxes[..., :2] + c.BOX_OFFSET
    return smallest(sides) >= c.PROPOSAL_MINIMUM_SIDE
