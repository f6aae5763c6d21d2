"""Faster R-CNN R50-C4 of maskrcnn-benchmark, with static shapes throughout.

Shapes do not depend on the data. Boxes that other implementations remove are masked and padded, so
the same graph runs in PyTorch, ONNX Runtime and TensorRT.
"""

from collections import OrderedDict
from typing import Tuple

import torch
from torch import nn

from trtyard.pipeline.models.faster_rcnn.conventions import PROPOSALS
from trtyard.pipeline.models.faster_rcnn.detections import BoxHead
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape, RegionProposalNetwork
from trtyard.pipeline.models.faster_rcnn.resnet import backbone_and_head
from trtyard.pipeline.torch_support.versions import is_tracing

INPUT_NAMES = ("images",)
OUTPUT_NAMES = ("boxes", "scores", "labels", "count", "proposals")

Outputs = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class FasterRCNN(nn.Module):
    """The detector, for images of one shape."""

    def __init__(self, shape: ImageShape, top_n: int = PROPOSALS) -> None:
        """Make the network with arbitrary weights.

        Args:
            shape: of the input images.
            top_n: proposals for each image ("post NMS top n").
        """
        super().__init__()
        self.shape = shape
        self.backbone, fifth_stage = backbone_and_head()
        self.rpn = RegionProposalNetwork(shape, top_n)
        self.roi_heads = nn.ModuleDict(
            OrderedDict([("box", BoxHead(shape, self.rpn.top_n, fifth_stage))])
        )

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return the detections in each image, padded to 100.

        Args:
            images: float32 [B, 3, H, W], BGR in 0..255 minus the pixel means.

        Returns:
            boxes: float32 [B, 100, 4], (x1, y1, x2, y2) in pixels of the images, clipped.
            scores: float32 [B, 100], descending; equal ones by label, then by proposal.
            labels: int32 [B, 100], 1 to 80; padding has 0, and zeros in boxes and scores.
            count: int32 [B], detections that are not padding.
            proposals: int32 [B], proposals that are not padding.

        Raises:
            ValueError: the images do not have the network's shape.
        """
        if not is_tracing() and not self._fits(images):
            raise ValueError(f"images are {list(images.shape)}, not {self._expected()}")
        features = self.backbone(images)
        boxes, alive, proposals = self.rpn(features)
        boxes, scores, labels, count = self.roi_heads["box"](features, boxes, alive)
        return boxes, scores, labels, count, proposals

    def _fits(self, images: torch.Tensor) -> bool:
        batch, *others = images.shape
        sides = [3, self.shape.height, self.shape.width]
        return others == sides and self.shape.batch in (None, batch)

    def _expected(self) -> str:
        batch = "B" if self.shape.batch is None else self.shape.batch
        return f"[{batch}, 3, {self.shape.height}, {self.shape.width}]"
