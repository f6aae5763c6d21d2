"""MultiscaleRoIAlign as a torch operator, and the function that users call."""

from typing import Any, Mapping, Sequence, Tuple, Union

import torch

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import MOST_LEVELS, OP
from trtyard.pipeline.ops.multiscale_roi_align_op.cuda import multiscale_roi_align_cuda
from trtyard.pipeline.ops.multiscale_roi_align_op.reference import multiscale_roi_align_reference
from trtyard.pipeline.ops.roi_align_op.reference import new_pooled
from trtyard.pipeline.ops.torch_op import records_gradients, torch_op


def _shapes(
    features_0: torch.Tensor,
    features_1: torch.Tensor,
    features_2: torch.Tensor,
    features_3: torch.Tensor,
    features_4: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    *others: Any,
    **named: Any,
) -> torch.Tensor:
    shape = (rois.shape[0], features_0.shape[1], output_height, output_width)
    return new_pooled(features_0, shape)


_of_five_maps = torch_op(
    OP, multiscale_roi_align_reference, _shapes, on_cuda=multiscale_roi_align_cuda
)


def multiscale_roi_align(
    features: Sequence[torch.Tensor],
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_size: Union[int, Tuple[int, int]],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = False,
    canonical_scale: int = 224,
    canonical_level: int = 4,
) -> torch.Tensor:
    """Return RoIAlign over padded rois, each on the map of the pyramid that fits its size.

    Args:
        features: two to five maps [B, C, H, W] of one type, the finest first.
        rois: float32 [R, 4], corners (x1, y1, x2, y2) in pixels of the network's input.
        batch_indices: int32 [R], the image of each roi; -1 marks padding.
        output_size: bins, or bins down and across.
        spatial_scales: cells per input pixel of each map, such as 1/4, 1/8, 1/16, 1/32.
        sampling_ratio: samples per bin and axis; 0 means ceil(roi size / bins).
        aligned: True shifts by half a pixel; False is the form of torchvision's MultiScaleRoIAlign.
        canonical_scale: side of a square roi of the canonical level, in pixels.
        canonical_level: its level; a map with the scale 2^-k has level k.

    Returns:
        [R, C, *output_size] in the type and memory layout of the first map; zeros for padding.
        In training the maps get gradients, from the reference's own ops. The rois get none.

    Raises:
        ValueError: maps, shapes, scales or sizes do not match.
    """
    if isinstance(features, Mapping):
        raise ValueError("multiscale_roi_align takes a list of maps: give features.values()")
    maps, scales = list(features), [float(scale) for scale in spatial_scales]
    if len(maps) != len(scales) or not 2 <= len(maps) <= MOST_LEVELS:
        raise ValueError(
            f"multiscale_roi_align takes two to five maps and a scale for each, not {len(maps)} "
            f"maps and {len(scales)} scales"
        )
    bins = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(bins) != 2:
        raise ValueError(f"multiscale_roi_align: output_size is one number or two, not {bins}")
    missing = MOST_LEVELS - len(maps)
    compute = _of_five_maps
    if records_gradients([*maps, rois]):
        compute, rois = multiscale_roi_align_reference, rois.detach()
    result: torch.Tensor = compute(
        *maps,
        *[maps[-1]] * missing,
        rois,
        batch_indices,
        *bins,
        sampling_ratio,
        int(aligned),
        canonical_scale,
        canonical_level,
        *scales,
        *[0.0] * missing,
    )
    return result
