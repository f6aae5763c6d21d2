"""MaskRcnnROIAlign in plain torch: the reference that kernels and the ONNX function are held to."""

from typing import List, Sequence, Tuple

import torch

from trtyard.pipeline import torch_versions

# A roi this far outside every map samples nothing: all its bins are zero, for any spatial scale
# that float32 can hold next to it. The ONNX function uses the same number.
FAR_AWAY = -1e30

AVERAGE, MAXIMUM = 0, 1  # what mode is


def roi_align_reference(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
    mode: int = AVERAGE,
) -> torch.Tensor:
    """RoIAlign over padded rois, with coordinates and sums in float32.

    Args:
        features: float32 or float16 [B, C, H, W].
        rois: float32 [R, 4], corners (x1, y1, x2, y2) in pixels of the network's input.
        batch_indices: int32 [R], the image of each roi; -1 marks padding.
        output_height: bins down.
        output_width: bins across.
        spatial_scale: feature cells per input pixel.
        sampling_ratio: samples per bin and side; 0 takes ceil(roi size / bins).
        aligned: 1 shifts by half a pixel, 0 is the legacy form with rois of at least one cell.
        mode: 0 takes the mean of a bin's samples; 1 the largest of the samples' four weighted
            corners each, which is what ONNX's RoiAlign computes as "max".

    Returns:
        [R, C, output_height, output_width] in the features' type; zeros for padding, and for rois
        with a corner that is no finite number or with an image that is not there. With their
        channels last in memory where the features' are.

    Source: He et al., Mask R-CNN, section 3; torchvision.ops.roi_align computes the mean.
    """
    # torchvision would read outside the features' memory for these.
    elsewhere = (batch_indices < 0) | (batch_indices >= features.shape[0])
    elsewhere = elsewhere | ~torch.isfinite(rois).all(dim=1)
    corners = torch.where(elsewhere[:, None], torch.full_like(rois, FAR_AWAY), rois)
    image = torch.where(elsewhere, torch.zeros_like(batch_indices), batch_indices).to(rois.dtype)
    if mode == MAXIMUM:
        outside = torch.full_like(batch_indices, -1)
        images = torch.where(elsewhere, outside, batch_indices).tolist()
        rest = (spatial_scale, sampling_ratio, aligned)
        pooled = _maximum(features.float(), rois, images, (output_height, output_width), rest)
    else:
        pooled = torch_versions.roi_align(
            features.float(),
            torch.cat([image[:, None], corners], dim=1).float(),
            (output_height, output_width),
            spatial_scale,
            sampling_ratio if sampling_ratio > 0 else -1,
            bool(aligned),
        )
    if has_channels_last(features):
        return new_pooled(features, pooled.shape).copy_(pooled)
    return pooled.to(features.dtype)


def has_channels_last(features: torch.Tensor) -> bool:
    """Whether [B, C, H, W] lies in memory as [B, H, W, C], and not as it is written."""
    last = features.is_contiguous(memory_format=torch.channels_last)
    return last and not features.is_contiguous()


def new_pooled(features: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return an unwritten result of the op, its channels last in memory if the features' are."""
    last = has_channels_last(features)
    return torch.empty(
        tuple(shape),
        dtype=features.dtype,
        device=features.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def _maximum(
    features: torch.Tensor,
    rois: torch.Tensor,
    images: List[int],
    bins: Tuple[int, int],
    rest: Tuple[float, int, int],
) -> torch.Tensor:
    pooled = features.new_zeros((len(images), features.shape[1], *bins))
    for index, image in enumerate(images):
        if image < 0:
            continue
        x1, y1, x2, y2 = rois[index].float().unbind()
        down = _samples(y1, y2, bins[0], features.shape[2], *rest)
        across = _samples(x1, x2, bins[1], features.shape[3], *rest)
        for row, (rows, row_weights, row_samples) in enumerate(down):
            for column, (columns, column_weights, column_samples) in enumerate(across):
                cells = features[image][:, rows][:, :, columns]
                terms = (row_weights[:, None] * column_weights[None]) * cells
                terms = terms.flatten(1)
                if terms.shape[1] < 4 * row_samples * column_samples or terms.shape[1] == 0:
                    # Samples outside of the map are zeros, and so is a bin without samples.
                    terms = torch.cat([terms, terms.new_zeros((terms.shape[0], 1))], dim=1)
                pooled[index, :, row, column] = terms.max(dim=1)[0]
    return pooled


def _samples(
    low: torch.Tensor,
    high: torch.Tensor,
    bins: int,
    size: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> List[Tuple[torch.Tensor, torch.Tensor, int]]:
    """Return each bin's cells and weights, two a sample on the map, and how many samples it has."""
    scale = low.new_tensor(spatial_scale)
    shift = 0.5 if aligned else 0.0
    start = low * scale - shift
    length = (high * scale - shift) - start
    length = length if aligned else length.clamp(min=1.0)
    step = length / bins
    samples = sampling_ratio if sampling_ratio > 0 else max(0, int(torch.ceil(step)))
    found = []
    for index in range(bins):
        middle = torch.arange(samples, dtype=step.dtype, device=step.device) + 0.5
        at = (start + index * step) + middle * step / max(1, samples)
        at = at[(at >= -1.0) & (at <= size)].clamp(min=0.0)
        cell = at.long().clamp(max=max(0, size - 1))
        fraction = torch.where(cell >= size - 1, torch.zeros_like(at), at - cell.to(at.dtype))
        cells = torch.cat([cell, (cell + 1).clamp(max=max(0, size - 1))])
        found.append((cells, torch.cat([1.0 - fraction, fraction]), samples))
    return found
