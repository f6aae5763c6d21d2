"""The static form of torchvision's pooling of boxes from several feature maps."""

import math
from typing import Any, List, Sequence, Tuple

import torch

from trtyard.pipeline.models.static_detectors.padded_boxes import is_box
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.ops import multiscale_roi_align, roi_align
from trtyard.pipeline.ops.multiscale_roi_align_op.levels import level_of_scale, smallest_area
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
    maps, scales = _maps_and_scales(self, x, size)
    image = _image_of(rois)
    height, width = self.output_size
    ratio = max(0, self.sampling_ratio)
    if len(maps) == 1:
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


def pool_each(self: Any, x: Any, boxes: List[torch.Tensor], image_shapes: Any) -> torch.Tensor:
    """Return the same as ``pool``, as a sum over the levels.

    For torchvision 0.5. It needs only MaskRcnnROIAlign.
    """
    (rois,), (size,) = boxes, image_shapes
    maps, scales = _maps_and_scales(self, x, size)
    rois = rois.reshape(-1, 4)  # ONNX Runtime 1.1 needs to know the rank
    height, width = self.output_size
    pooled = None
    for image, features, scale in zip(_image_by_level(rois, scales), maps, scales):
        part = roi_align(
            features, rois, image, height, width, scale, max(0, self.sampling_ratio), _ALIGNED
        )
        pooled = part if pooled is None else pooled + part
    return pooled


def _image_by_level(rois: torch.Tensor, scales: Sequence[float]) -> List[torch.Tensor]:
    """Return for each level 0 for the rois that it pools, int32 [R], and -1 for the others."""
    area = (rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])
    image = _image_of(rois)
    nothing = torch.full_like(image, _PADDED_ROI)
    found = []
    for scale in scales[1:]:
        least = smallest_area(level_of_scale(scale), _CANONICAL_SCALE, _CANONICAL_LEVEL)
        is_higher = area >= float(least)
        found.append(torch.where(is_higher, nothing, image))
        image = torch.where(is_higher, image, nothing)
    return [*found, image]


def _image_of(rois: torch.Tensor) -> torch.Tensor:
    """Return 0 for boxes and -1 for padding, int32 [R]."""
    image = torch.zeros(rois.shape[0], dtype=torch.int32, device=rois.device)
    image = torch.where(is_box(rois), image, torch.full_like(image, _PADDED_ROI))
    return image.reshape(-1)


def _maps_and_scales(
    module: Any, x: Any, size: Tuple[int, int]
) -> Tuple[List[torch.Tensor], List[float]]:
    """Return the maps that have a level, and their scales.

    torchvision's levels go from the first scale's to the last's, and may be fewer than the maps.
    """
    maps = [value for name, value in x.items() if name in module.featmap_names]
    scales = _scales(maps, size)
    levels = 1 + level_of_scale(scales[-1]) - level_of_scale(scales[0])
    return maps[:levels], scales[:levels]


def _scales(maps: Sequence[torch.Tensor], size: Tuple[int, int]) -> List[float]:
    """Return each map's cells per pixel: the nearest power of two, as torchvision infers it."""
    with untraced():
        heights = [int(each.shape[2]) for each in maps]
    return [2.0 ** round(math.log2(height / float(size[0]))) for height in heights]


_NAME = "torchvision.ops.poolers.MultiScaleRoIAlign.forward"
POOL = Rewrite(
    _NAME, {"0.17": "67b6bf5a4b1a", "0.27": "21b2286e808d", "0.28": "21b2286e808d"}, pool
)
POOL_0_5 = Rewrite(_NAME, {"0.5": "86f3b3f8da75"}, pool_each)
