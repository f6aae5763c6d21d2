"""RetinaNet's post-processing with static shapes."""

from typing import Any, List

import torch

from trtyard.pipeline.models.static_detectors.levels import detect
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.suppression import Found


def postprocess_detections(
    self: Any, head_outputs: Any, anchors: Any, image_shapes: Any
) -> List[Found]:
    """Return the padded detections in one image, in place of RetinaNet's own.

    Args:
        self: the RetinaNet.
        head_outputs: per level, "cls_logits" [1, A, C] and "bbox_regression" [1, A, 4].
        anchors: of one image, per level, float32 [A, 4].
        image_shapes: height and width of one image.
    """
    scores = [torch.sigmoid(logits[0]) for logits in head_outputs["cls_logits"]]
    return detect(
        self, scores, head_outputs, anchors, self.box_coder.decode_single, image_shapes[0]
    )


RETINANET = Rewrite(
    "torchvision.models.detection.retinanet.RetinaNet.postprocess_detections",
    {"0.17": "6fa889415d55", "0.27": "3a9ab809a382", "0.28": "3a9ab809a382"},
    postprocess_detections,
)
