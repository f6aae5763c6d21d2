"""MultiscaleRoIAlign on CUDA tensors: the kernel, or the reference if there is no kernel."""

import torch

from trtyard.pipeline.ops.cuda import ELEMENT_TYPES, library_for, workspace_of
from trtyard.pipeline.ops.multiscale_roi_align_op.kernel import arguments_of
from trtyard.pipeline.ops.multiscale_roi_align_op.reference import (
    check_arguments,
    multiscale_roi_align_reference,
    scales_in_use,
)
from trtyard.pipeline.ops.roi_align_op.cuda import FORMATS
from trtyard.pipeline.ops.roi_align_op.reference import has_channels_last, new_pooled


def multiscale_roi_align_cuda(
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
    """Compute ``multiscale_roi_align_reference`` for tensors on one CUDA device."""
    library = library_for(features_0)
    if library is None:
        return multiscale_roi_align_reference(
            features_0,
            features_1,
            features_2,
            features_3,
            features_4,
            rois,
            batch_indices,
            output_height,
            output_width,
            sampling_ratio,
            aligned,
            canonical_scale,
            canonical_level,
            scale_0,
            scale_1,
            scale_2,
            scale_3,
            scale_4,
        )
    scales = scales_in_use([scale_0, scale_1, scale_2, scale_3, scale_4])
    maps = [features_0, features_1, features_2, features_3, features_4][: len(scales)]
    check_arguments(maps, rois, batch_indices, canonical_scale, (output_height, output_width))
    last = has_channels_last(features_0)
    order = torch.channels_last if last else torch.contiguous_format
    maps = [each.contiguous(memory_format=order) for each in maps]
    rois, batch_indices = rois.float().contiguous(), batch_indices.int().contiguous()
    batch, channels = features_0.shape[:2]
    with torch.cuda.device(features_0.device):
        pooled = new_pooled(features_0, (len(rois), channels, output_height, output_width))
        size = library.size(
            "trtyard_multiscale_roi_align_workspace", len(rois), output_height, output_width
        )
        workspace = workspace_of(size, features_0.device)
        others = (
            rois.data_ptr(),
            batch_indices.data_ptr(),
            pooled.data_ptr(),
            batch,
            channels,
            len(rois),
            output_height,
            output_width,
            sampling_ratio,
            aligned,
            canonical_scale,
            canonical_level,
            ELEMENT_TYPES[features_0.dtype],
            FORMATS[last],
            FORMATS[last],
        )
        library.launch(
            "trtyard_multiscale_roi_align",
            *arguments_of(
                [each.data_ptr() for each in maps],
                [(each.shape[2], each.shape[3]) for each in maps],
                scales,
                others,
            ),
            workspace.data_ptr(),
            size,
            torch.cuda.current_stream().cuda_stream,
        )
    return pooled
