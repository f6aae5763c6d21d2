"""MaskRcnnROIAlign in plain torch: the reference for the kernels and the ONNX function."""

from typing import List, NamedTuple, Sequence, Tuple

import torch

from trtyard.pipeline.torch_support import versions as torch_versions

# The largest distance, in cells, of a corner from the map's first cell. Beyond it, float32 has no
# step finer than an eighth of a cell, and the number of samples is not bounded. As in samples.cuh.
FARTHEST = float(1 << 20)

# A roi with adaptive samples is larger than its map if it has more cells on an axis than twice the
# map's plus this number. It is pooled separately, because few of its samples are on the map.
SPARE_CELLS = 64

AVERAGE, MAXIMUM = 0, 1  # values of mode
_LARGEST_FLOAT32 = torch.finfo(torch.float32).max


class Sampling(NamedTuple):
    """Where the samples of a bin are."""

    scale: float
    ratio: int
    aligned: int


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
    """Return RoIAlign over padded rois, with coordinates and sums in float32.

    Args:
        features: float32, float16 or bfloat16 [B, C, H, W].
        rois: float32 [R, 4], corners (x1, y1, x2, y2) in pixels of the network's input.
        batch_indices: int32 [R], the image of each roi; -1 marks padding.
        output_height: bins down.
        output_width: bins across.
        spatial_scale: feature cells per input pixel.
        sampling_ratio: samples per bin and axis; 0 means ceil(roi size / bins).
        aligned: 1 shifts by half a pixel; 0 is the legacy form with rois of at least one cell.
        mode: 0 is the mean of a bin's samples; 1 is the largest of all samples' four weighted
            corners, which ONNX's RoiAlign computes as "max".

    Returns:
        [R, C, output_height, output_width] in the features' type and memory layout (channels last
        if theirs is). Zeros for padding, and for rois with an image index out of range or a corner
        that is NaN or at least ``FARTHEST`` cells away.

    Raises:
        ValueError: the shapes or attributes do not match.

    Source: He et al., Mask R-CNN, section 3; torchvision.ops.roi_align computes the mean.
    """
    sampling = Sampling(spatial_scale, sampling_ratio, aligned)
    bins = (output_height, output_width)
    check_arguments(features, rois, batch_indices, bins, sampling, mode)
    maps, corners = features.float(), rois.float()
    alive, oversized = _kinds(features.shape, corners, batch_indices, sampling)
    pooled = maps.new_zeros((len(rois), features.shape[1], output_height, output_width))
    if maps.requires_grad:
        pooled = pooled + maps[:0].sum()  # zero: without rois the gradients are zeros, not missing
    if pooled.numel() == 0:
        alive = oversized = torch.zeros_like(alive)
    if mode == AVERAGE:
        usual = (alive & ~oversized).nonzero().flatten()
        if len(usual):
            image = batch_indices[usual].to(corners.dtype)
            pooled[usual] = torch_versions.roi_align(
                maps,
                torch.cat([image[:, None], corners[usual]], dim=1),
                bins,
                spatial_scale,
                sampling_ratio if sampling_ratio > 0 else -1,
                bool(aligned),
            )
        alive = oversized
    one_roi = _average if mode == AVERAGE else _maximum
    for index in alive.nonzero().flatten().tolist():
        image = int(batch_indices[index])
        pooled[index] = one_roi(maps[image], corners[index], bins, sampling)
    if has_channels_last(features):
        return new_pooled(features, pooled.shape).copy_(pooled)
    return pooled.to(features.dtype)


def check_arguments(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    bins: Tuple[int, int],
    sampling: Sampling,
    mode: int,
) -> None:
    """Raise a ValueError if the shapes, types or attributes do not match."""
    shapes = [list(each.shape) for each in (features, rois, batch_indices)]
    if len(shapes[0]) != 4 or shapes[1] != [len(rois), 4] or shapes[2] != shapes[1][:1]:
        raise ValueError(
            "MaskRcnnROIAlign takes features [B, C, H, W], rois [R, 4] and batch indices [R], "
            f"not {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    if not features.is_floating_point():
        raise ValueError(f"MaskRcnnROIAlign takes floating-point features, not {features.dtype}")
    check_attributes(bins, sampling, mode)


def check_attributes(bins: Tuple[int, int], sampling: Sampling, mode: int = AVERAGE) -> None:
    """Raise a ValueError if an attribute is not valid."""
    if min(bins) < 0 or sampling.ratio < 0:
        raise ValueError(
            f"MaskRcnnROIAlign: output sizes {bins[0]} and {bins[1]} and sampling_ratio "
            f"{sampling.ratio} must not be negative"
        )
    if sampling.aligned not in (0, 1) or mode not in (AVERAGE, MAXIMUM):
        raise ValueError(
            f"MaskRcnnROIAlign: aligned {sampling.aligned} and mode {mode} must be 0 or 1"
        )
    if not abs(sampling.scale) <= _LARGEST_FLOAT32:  # also true for NaN
        raise ValueError(f"MaskRcnnROIAlign: spatial_scale {sampling.scale} must be finite")


def _kinds(
    shape: Sequence[int],
    corners: torch.Tensor,
    batch_indices: torch.Tensor,
    sampling: Sampling,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return which rois read the map, and which of them are larger than it; bool [R] each.

    For the other rois torchvision would read outside the features' memory. For the larger ones it
    would compute an unbounded number of samples.
    """
    is_there = (batch_indices >= 0) & (batch_indices < shape[0])
    if min(shape[2:]) == 0:
        is_there = torch.zeros_like(is_there)
    cells = corners * corners.new_tensor(sampling.scale)
    alive = is_there & (cells.abs() < FARTHEST).all(dim=1)  # false for NaN
    if sampling.ratio > 0:
        return alive, torch.zeros_like(alive)
    if sampling.aligned:
        # An inverted box has no samples.
        alive = alive & (cells[:, 2:] - 0.5 > cells[:, :2] - 0.5).all(dim=1)
    most = cells.new_tensor([2 * shape[3] + SPARE_CELLS, 2 * shape[2] + SPARE_CELLS])
    return alive, alive & (cells[:, 2:] - cells[:, :2] > most).any(dim=1)


def has_channels_last(features: torch.Tensor) -> bool:
    """Return whether [B, C, H, W] has the channels-last memory layout."""
    last = features.is_contiguous(memory_format=torch.channels_last)
    return last and not features.is_contiguous()


def new_pooled(features: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return an empty result tensor, channels-last in memory if the features are."""
    last = has_channels_last(features)
    return torch.empty(
        tuple(shape),
        dtype=features.dtype,
        device=features.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


class _Bin(NamedTuple):
    """A bin's samples on the map along one axis."""

    cells: torch.Tensor  # int64 [2 n]: the lower neighbours of the samples, then the upper ones
    weights: torch.Tensor  # float32 [2 n]
    samples: int  # number of samples, including those outside the map


def _average(
    features: torch.Tensor, corners: torch.Tensor, bins: Tuple[int, int], sampling: Sampling
) -> torch.Tensor:
    """Return the bins' means [C, bins[0], bins[1]] of a map [C, H, W]: Wy * F * Wx^T."""
    matrices = []
    for axis in (0, 1):
        size = features.shape[1 + axis]
        matrix = features.new_zeros((bins[axis], size))
        for row, found in zip(matrix, _bins(corners, axis, bins[axis], size, sampling)):
            row.index_add_(0, found.cells, found.weights / max(1, found.samples))
        matrices.append(matrix)
    return torch.matmul(torch.matmul(matrices[0], features), matrices[1].t())


def _maximum(
    features: torch.Tensor, corners: torch.Tensor, bins: Tuple[int, int], sampling: Sampling
) -> torch.Tensor:
    """Return the largest terms [C, bins[0], bins[1]] of the bins' samples."""
    pooled = features.new_zeros((features.shape[0], *bins))
    down, across = (
        _bins(corners, axis, bins[axis], features.shape[1 + axis], sampling) for axis in (0, 1)
    )
    for row, vertical in enumerate(down):
        for column, horizontal in enumerate(across):
            cells = features[:, vertical.cells][:, :, horizontal.cells]
            terms = (vertical.weights[:, None] * horizontal.weights[None]) * cells
            terms = terms.flatten(1)
            if terms.shape[1] < 4 * vertical.samples * horizontal.samples or terms.shape[1] == 0:
                # Samples outside the map are zeros, and so is a bin without samples.
                terms = torch.cat([terms, terms.new_zeros((terms.shape[0], 1))], dim=1)
            pooled[:, row, column] = terms.max(dim=1)[0]
    return pooled


def _bins(corners: torch.Tensor, axis: int, bins: int, size: int, sampling: Sampling) -> List[_Bin]:
    """Return the bins of a roi down (0) or across (1) a map of ``size`` cells."""
    low, high = corners[1 - axis], corners[3 - axis]
    scale = low.new_tensor(sampling.scale)
    shift = 0.5 if sampling.aligned else 0.0
    start = low * scale - shift
    length = (high * scale - shift) - start
    length = length if sampling.aligned else length.clamp(min=1.0)
    step = length / bins
    samples = sampling.ratio if sampling.ratio > 0 else max(0, int(torch.ceil(step)))
    found = []
    for index in range(bins):
        middle = torch.arange(samples, dtype=step.dtype, device=step.device) + 0.5
        at = (start + index * step) + middle * step / max(1, samples)
        at = at[(at >= -1.0) & (at <= size)].clamp(min=0.0)
        cell = at.long().clamp(max=size - 1)
        fraction = torch.where(cell >= size - 1, torch.zeros_like(at), at - cell.to(at.dtype))
        cells = torch.cat([cell, (cell + 1).clamp(max=size - 1)])
        found.append(_Bin(cells, torch.cat([1.0 - fraction, fraction]), samples))
    return found
