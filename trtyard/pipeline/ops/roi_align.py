"""MaskRcnnROIAlign in plain torch: the reference that kernels and the ONNX function are held to."""

import torch

from trtyard.pipeline import torch_versions

# A roi this far outside every map samples nothing: all its bins are zero, for any spatial scale
# that float32 can hold next to it. The ONNX function uses the same number.
FAR_AWAY = -1e30


def roi_align_reference(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> torch.Tensor:
    """Average RoIAlign over padded rois, with coordinates and sums in float32.

    Args:
        features: float32 or float16 [B, C, H, W].
        rois: float32 [R, 4], corners (x1, y1, x2, y2) in pixels of the network's input.
        batch_indices: int32 [R], the image of each roi; -1 marks padding.
        output_height: bins down.
        output_width: bins across.
        spatial_scale: feature cells per input pixel.
        sampling_ratio: samples per bin and side; 0 takes ceil(roi size / bins).
        aligned: 1 shifts by half a pixel, 0 is the legacy form with rois of at least one cell.

    Returns:
        [R, C, output_height, output_width] in the features' type; zeros for padding, and for rois
        with a corner that is no finite number or with an image that is not there.

    Source: He et al., Mask R-CNN, section 3; torchvision.ops.roi_align computes it.
    """
    # torchvision would read outside the features' memory for these.
    elsewhere = (batch_indices < 0) | (batch_indices >= features.shape[0])
    elsewhere = elsewhere | ~torch.isfinite(rois).all(dim=1)
    corners = torch.where(elsewhere[:, None], torch.full_like(rois, FAR_AWAY), rois)
    image = torch.where(elsewhere, torch.zeros_like(batch_indices), batch_indices).to(rois.dtype)
    pooled = torch_versions.roi_align(
        features.float(),
        torch.cat([image[:, None], corners], dim=1).float(),
        (output_height, output_width),
        spatial_scale,
        sampling_ratio if sampling_ratio > 0 else -1,
        bool(aligned),
    )
    return pooled.to(features.dtype)
