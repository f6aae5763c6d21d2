"""The static form of torchvision's pooling of boxes from several feature maps."""

import math
from typing import Any, List, Sequence, Tuple

import torch

from trtyard.pipeline.models.static_detectors.padded_boxes import is_box
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.ops import multiscale_roi_align, roi_align
from trtyard.pipeline.torch_support.versions import untraced

_PADDED_ROI = -1
# Of LevelMapper, where torchvision has no arguments for them.
_CANONICAL_SCALE, _CANONICAL_LEVEL = 224, 4
_ALIGNED = 0


def pool(self: Any, x: Any, boxes: List[torch.Tensor], image_shapes: Any) -> torch.Tensor:
    """Return the pooled features of one image, in place of ``MultiScaleRoIAlign.forward``.

    Args:
        self: the pooling module.
        x: by name, float32 [1, C, H, W] of each level.
        boxes: a list with one tensor, float32 [R, 4], with padding.
        image_shapes: a list with one (height, width).

    Returns:
        float32 [R, C, h, w]; zeros for padding.
    """
    (rois,), (size,) = boxes, image_shapes
    image = torch.zeros(rois.shape[0], dtype=torch.int32, device=rois.device)
    image = torch.where(is_box(rois), image, torch.full_like(image, _PADDED_ROI))
    maps = [value for name, value in x.items() if name in self.featmap_names]
    scales = _scales(maps, size)
    height, width = self.output_size
    ratio = max(0, self.sampling_ratio)
    # torchvision's levels go from the first scale's to the last's, and may be fewer than the maps.
    if scales[0] == scales[-1]:
        return roi_align(maps[0], rois, image, height, width, scales[0], ratio, _ALIGNED)
    return multiscale_roi_align(
        maps,
        rois,
        image,
        (height, width),
        scales,
        ratio,
        canonical_scale=getattr(self, "canonical_scale", _CANONICAL_SCALE),
        canonical_level=getattr(self, "canonical_level", _CANONICAL_LEVEL),
    )


def _scales(maps: Sequence[torch.Tensor], size: Tuple[int, int]) -> List[float]:
    """Return each map's cells per pixel: the nearest power of two, as torchvision infers it."""
    with untraced():
        heights = [int(each.shape[2]) for each in maps]
    return [2.0 ** round(math.log2(height / float(size[0]))) for height in heights]


POOL = Rewrite(
    "torchvision.ops.poolers.MultiScaleRoIAlign.forward",
    {
        "0.5": "86f3b3f8da75",
        "0.17": "67b6bf5a4b1a",
        "0.27": "21b2286e808d",
        "0.28": "21b2286e808d",
    },
    pool,
)
