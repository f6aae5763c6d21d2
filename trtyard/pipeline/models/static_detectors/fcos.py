"""FCOS's post-processing with static shapes."""

from typing import Any, List

import torch

from trtyard.pipeline.models.static_detectors.levels import detect
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.suppression import Found


def postprocess_detections(
    self: Any, head_outputs: Any, anchors: Any, image_shapes: Any
) -> List[Found]:
    """Return the padded detections in one image, in place of FCOS's own.

    Args:
        self: the FCOS.
        head_outputs: per level, "cls_logits" [1, A, C], "bbox_regression" [1, A, 4] and
            "bbox_ctrness" [1, A, 1].
        anchors: of one image, per level, float32 [A, 4].
        image_shapes: height and width of one image.
    """
    scores = [
        torch.sqrt(torch.sigmoid(logits) * torch.sigmoid(centerness))[0]
        for logits, centerness in zip(head_outputs["cls_logits"], head_outputs["bbox_ctrness"])
    ]
    return detect(self, scores, head_outputs, anchors, self.box_coder.decode, image_shapes[0])


FCOS = Rewrite(
    "torchvision.models.detection.fcos.FCOS.postprocess_detections",
    {"0.17": "a8a6ecd9c15e", "0.27": "0d4ef29ea932", "0.28": "0d4ef29ea932"},
    postprocess_detections,
)
