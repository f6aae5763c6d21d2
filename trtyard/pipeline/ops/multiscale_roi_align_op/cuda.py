"""MultiscaleRoIAlign on CUDA tensors: the kernel, or the reference if there is no kernel."""

from typing import Any

import torch

from trtyard.pipeline.ops.cuda import ELEMENT_TYPES, library_for, refuse_other_devices, workspace_of
from trtyard.pipeline.ops.multiscale_roi_align_op.contract import MOST_LEVELS, OP, SCALES
from trtyard.pipeline.ops.multiscale_roi_align_op.kernel import arguments_of
from trtyard.pipeline.ops.multiscale_roi_align_op.reference import (
    check_arguments,
    multiscale_roi_align_reference,
    scales_in_use,
)
from trtyard.pipeline.ops.roi_align_op.cuda import FORMATS
from trtyard.pipeline.ops.roi_align_op.reference import Sampling, has_channels_last, new_pooled


def multiscale_roi_align_cuda(*arguments: Any) -> torch.Tensor:
    """Compute ``multiscale_roi_align_reference``, with its arguments, on one CUDA device."""
    library = library_for(arguments[0])
    if library is None:
        return multiscale_roi_align_reference(*arguments)
    tensors, values = OP.apart(arguments)
    scales = scales_in_use([values[name] for name in SCALES])
    maps, (rois, batch_indices) = tensors[: len(scales)], tensors[MOST_LEVELS:]
    bins = (values["output_height"], values["output_width"])
    sampling = Sampling(scales[0], values["sampling_ratio"], values["aligned"])
    check_arguments(maps, rois, batch_indices, values["canonical_scale"], bins, sampling)
    refuse_other_devices(OP, [*maps, rois, batch_indices])
    finest = maps[0]
    last = has_channels_last(finest)
    order = torch.channels_last if last else torch.contiguous_format
    maps = [each.contiguous(memory_format=order) for each in maps]
    rois, batch_indices = rois.float().contiguous(), batch_indices.int().contiguous()
    batch, channels = finest.shape[:2]
    with torch.cuda.device(finest.device):
        pooled = new_pooled(finest, (len(rois), channels, *bins))
        size = library.size("trtyard_multiscale_roi_align_workspace", len(rois), *bins)
        workspace = workspace_of(size, finest.device)
        names = ("sampling_ratio", "aligned", "canonical_scale", "canonical_level")
        others = (
            rois.data_ptr(),
            batch_indices.data_ptr(),
            pooled.data_ptr(),
            batch,
            channels,
            len(rois),
            *bins,
            *[values[name] for name in names],
            ELEMENT_TYPES[finest.dtype],
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
