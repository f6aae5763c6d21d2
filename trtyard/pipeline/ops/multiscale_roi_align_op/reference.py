"""MultiscaleRoIAlign in plain torch: the reference for the kernels and the ONNX function."""

import math
from typing import List, Sequence, Tuple

import torch

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import LEAST_LEVELS
from trtyard.pipeline.ops.multiscale_roi_align_op.levels import LEVEL_EPSILON, level_of_scale
from trtyard.pipeline.ops.roi_align_op.reference import (
    Sampling,
    check_attributes,
    new_pooled,
    roi_align_reference,
)

NO_LEVEL = -1


def multiscale_roi_align_reference(
    features_0: torch.Tensor,
    features_1: torch.Tensor,
    features_2: torch.Tensor,
    features_3: torch.Tensor,
    features_4: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    aligned: int,
    canonical_scale: int,
    canonical_level: int,
    scale_0: float,
    scale_1: float,
    scale_2: float = 0.0,
    scale_3: float = 0.0,
    scale_4: float = 0.0,
) -> torch.Tensor:
    """Return RoIAlign over padded rois, each on the map of the pyramid that fits its size.

    Args:
        features_0: float32, float16 or bfloat16 [B, C, H, W], the finest map.
        features_1: a map of the same type, B and C, like all that follow.
        features_2: ignored if its scale is 0, like those that follow.
        features_3: as above.
        features_4: as above.
        rois: float32 [R, 4], corners (x1, y1, x2, y2) in pixels of the network's input.
        batch_indices: int32 [R], the image of each roi; -1 marks padding.
        output_height: bins down.
        output_width: bins across.
        sampling_ratio: samples per bin and axis; 0 means ceil(roi size / bins).
        aligned: 1 shifts by half a pixel; 0 is the legacy form with rois of at least one cell.
        canonical_scale: side of a square roi of the canonical level, in pixels.
        canonical_level: its level; a map with the scale 2^-k has level k.
        scale_0: cells of the finest map per input pixel.
        scale_1: of the next map.
        scale_2: of the next map; 0 if there is none, and then all that follow are 0.
        scale_3: as above.
        scale_4: as above.

    Returns:
        [R, C, output_height, output_width] in the type and memory layout of the finest map. Zeros
        for the rois that are padding in MaskRcnnROIAlign, and for those without a level.

    Raises:
        ValueError: the shapes or attributes do not match.

    Source: Lin et al., Feature Pyramid Networks, equation 1. torchvision.ops.MultiScaleRoIAlign
    computes the same with ``aligned`` 0.
    """
    scales = scales_in_use([scale_0, scale_1, scale_2, scale_3, scale_4])
    maps = [features_0, features_1, features_2, features_3, features_4][: len(scales)]
    sampling = Sampling(scale_0, sampling_ratio, aligned)
    bins = (output_height, output_width)
    check_arguments(maps, rois, batch_indices, canonical_scale, bins, sampling)
    levels = levels_of(rois, scales, canonical_scale, canonical_level)
    shape = (len(rois), features_0.shape[1], output_height, output_width)
    pooled = new_pooled(features_0, shape).zero_()
    for level, (features, scale) in enumerate(zip(maps, scales)):
        chosen = (levels == level).nonzero().flatten()
        pooled[chosen] = roi_align_reference(
            features,
            rois[chosen],
            batch_indices[chosen],
            output_height,
            output_width,
            scale,
            sampling_ratio,
            aligned,
        )
    return pooled


def levels_of(
    rois: torch.Tensor, scales: Sequence[float], canonical_scale: int, canonical_level: int
) -> torch.Tensor:
    """Return the index of each roi's map, int64 [R]; no map has the index ``NO_LEVEL``.

    The index may be larger than the last map's if the scales skip a level. A roi that is inverted
    on one axis has no level.
    """
    corners = rois.float()
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    # The operations of torchvision: within a float or two of a border, others may decide otherwise.
    level = canonical_level + torch.log2(area.sqrt() / canonical_scale)
    level = torch.floor(level + torch.tensor(LEVEL_EPSILON, dtype=level.dtype))
    first, last = level_of_scale(scales[0]), level_of_scale(scales[-1])
    index = level.clamp(min=first, max=last) - first
    index = torch.where(area >= 0, index, torch.full_like(index, NO_LEVEL))
    return index.to(torch.int64)


def scales_in_use(scales: Sequence[float]) -> List[float]:
    """Return the scales before the first 0.

    Raises:
        ValueError: there are fewer than two, or one is not valid.
    """
    used = [scale for scale in scales if scale != 0]
    narrow = [_float32(scale) for scale in used]
    if (
        len(used) < LEAST_LEVELS
        or any(list(scales)[len(used) :])
        or not all(0 < scale < math.inf for scale in narrow)
        or narrow[0] < narrow[-1]
    ):
        raise ValueError(
            f"MultiscaleRoIAlign: the scales {list(scales)} must be two to five positive numbers, "
            "the finest map's first"
        )
    return used


def _float32(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


def check_arguments(
    maps: Sequence[torch.Tensor],
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    canonical_scale: int,
    bins: Tuple[int, int],
    sampling: Sampling,
) -> None:
    """Raise a ValueError if shapes, types or attributes do not match."""
    shapes = [list(each.shape) for each in maps]
    of_rois, of_indices = list(rois.shape), list(batch_indices.shape)
    alike = all(len(each) == 4 and each[:2] == shapes[0][:2] for each in shapes)
    if not alike or of_rois != [len(rois), 4] or of_indices != of_rois[:1]:
        raise ValueError(
            "MultiscaleRoIAlign takes maps [B, C, H, W] with the same B and C, rois [R, 4] and "
            f"batch indices [R], not {shapes}, {of_rois} and {of_indices}"
        )
    if len({each.dtype for each in maps}) > 1:
        raise ValueError(
            f"MultiscaleRoIAlign: the maps must have one type, not {[each.dtype for each in maps]}"
        )
    if not maps[0].is_floating_point():
        raise ValueError(f"MultiscaleRoIAlign takes floating-point maps, not {maps[0].dtype}")
    if canonical_scale < 1:
        raise ValueError(f"MultiscaleRoIAlign: canonical_scale {canonical_scale} must be positive")
    check_attributes(bins, sampling)
