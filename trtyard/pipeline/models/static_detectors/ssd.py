"""SSD's post-processing with static shapes."""

from typing import Any, List

import torch
from torchvision.ops import boxes as box_ops

from trtyard.pipeline.models.faster_rcnn.selection import highest
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import plain_size
from trtyard.pipeline.models.static_detectors.suppression import (
    Candidates,
    Found,
    suppress_by_class,
)


def postprocess_detections(
    self: Any, head_outputs: Any, image_anchors: Any, image_shapes: Any
) -> List[Found]:
    """Return the padded detections in one image, in place of SSD's own.

    Args:
        self: the SSD.
        head_outputs: "cls_logits" [1, A, C], the background first, and "bbox_regression" [1, A, 4].
        image_anchors: of one image, float32 [A, 4].
        image_shapes: height and width of one image.
    """
    logits, (anchors,) = head_outputs["cls_logits"][0], image_anchors
    count, classes = plain_size(logits)
    boxes = self.box_coder.decode_single(head_outputs["bbox_regression"][0], anchors)
    boxes = box_ops.clip_boxes_to_image(boxes, image_shapes[0])
    scores = torch.softmax(logits, dim=-1).permute(1, 0)[1:]
    kept = min(self.topk_candidates, count)
    chosen = highest(scores, count, kept)
    labels = torch.arange(1, classes, dtype=torch.int64, device=chosen.device)[:, None]
    return [
        suppress_by_class(
            Candidates(
                torch.index_select(boxes, 0, chosen.reshape(-1)).reshape(classes - 1, kept, 4),
                torch.gather(scores, 1, chosen),
                labels.expand(classes - 1, kept),
            ),
            (self.score_thresh, self.nms_thresh),
            self.detections_per_img,
        )
    ]


SSD = Rewrite(
    "torchvision.models.detection.ssd.SSD.postprocess_detections",
    {"0.17": "0f2b1e4abb28", "0.27": "c76d6465435c", "0.28": "c76d6465435c"},
    postprocess_detections,
)
