"""MaskRcnnROIAlign on CUDA tensors: the kernel, or the reference if there is no kernel."""

import torch

from trtyard.pipeline.ops.cuda import ELEMENT_TYPES, library_for, refuse_other_devices, workspace_of
from trtyard.pipeline.ops.roi_align_op.contract import OP
from trtyard.pipeline.ops.roi_align_op.reference import (
    AVERAGE,
    Sampling,
    check_arguments,
    has_channels_last,
    new_pooled,
    roi_align_reference,
)

FORMATS = {False: 0, True: 1}  # whether channels are last, as in plugins/include/trtyard_kernels.h


def roi_align_cuda(
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
    """Compute ``roi_align_reference`` for three tensors on one CUDA device."""
    library = library_for(features)
    if library is None:
        return roi_align_reference(
            features,
            rois,
            batch_indices,
            output_height,
            output_width,
            spatial_scale,
            sampling_ratio,
            aligned,
            mode,
        )
    sampling = Sampling(spatial_scale, sampling_ratio, aligned)
    bins = (output_height, output_width)
    check_arguments(features, rois, batch_indices, bins, sampling, mode)
    refuse_other_devices(OP, [features, rois, batch_indices])
    last = has_channels_last(features)
    features = features if last else features.contiguous()
    rois, batch_indices = rois.float().contiguous(), batch_indices.int().contiguous()
    sizes = (*features.shape, rois.shape[0], output_height, output_width)
    with torch.cuda.device(features.device):
        shape = (rois.shape[0], features.shape[1], output_height, output_width)
        pooled = new_pooled(features, shape)
        size = library.size("trtyard_roi_align_workspace", *sizes)
        workspace = workspace_of(size, features.device)
        library.launch(
            "trtyard_roi_align",
            features.data_ptr(),
            rois.data_ptr(),
            batch_indices.data_ptr(),
            pooled.data_ptr(),
            *sizes,
            spatial_scale,
            sampling_ratio,
            aligned,
            mode,
            ELEMENT_TYPES[features.dtype],
            FORMATS[last],
            FORMATS[last],
            workspace.data_ptr(),
            size,
            torch.cuda.current_stream().cuda_stream,
        )
    return pooled
