"""The static form of torchvision's two-stage detectors: Faster, Mask and Keypoint R-CNN."""

from typing import Any, Dict, List

import torch

from trtyard.pipeline.models.static_detectors.keypoints import keypoints_of
from trtyard.pipeline.models.static_detectors.masks import pasted
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import resize_boxes
from trtyard.pipeline.models.static_detectors.static_detector import COUNT
from trtyard.pipeline.torch_support.versions import untraced


def finish(
    _self: Any, result: List[Dict[str, torch.Tensor]], image_shapes: Any, original_image_sizes: Any
) -> List[Dict[str, torch.Tensor]]:
    """Return one image's outputs, in place of ``GeneralizedRCNNTransform.postprocess``.

    Padding is zeros in every output. ``count``, int32 [1], is the number of other rows.
    """
    (found,), (size,), (original,) = result, image_shapes, original_image_sizes
    with untraced():
        original = int(original[0]), int(original[1])
    real = found["labels"] > 0
    boxes = resize_boxes(found["boxes"], size, original)
    made = {"boxes": _of(real, boxes), "labels": found["labels"], "scores": found["scores"]}
    if "masks" in found:
        made["masks"] = pasted(_of(real, found["masks"]), boxes, original)
    if "keypoints" in found:
        places, scores = keypoints_of(found["keypoints"], found["boxes"], size)
        ratios = [new / float(old) for new, old in zip(original, size)]
        if ratios != [1.0, 1.0]:
            places = places * places.new_tensor([ratios[1], ratios[0], 1.0])
        made["keypoints"] = _of(real, places)
        made["keypoints_scores"] = _of(real, scores)
    made[COUNT] = real.to(torch.int32).sum().reshape(1).to(torch.int32)
    return [made]


def _of(real: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``values`` [N, ...], with zeros in rows that are not real."""
    shape = (-1, *[1] * (values.dim() - 1))
    return torch.where(real.reshape(shape), values, torch.zeros_like(values))


FINISH = Rewrite(
    "torchvision.models.detection.transform.GeneralizedRCNNTransform.postprocess",
    {
        "0.5": "125fde9433e9",
        "0.17": "3f61c452a04c",
        "0.27": "e5a90afffc4f",
        "0.28": "e5a90afffc4f",
    },
    finish,
)
