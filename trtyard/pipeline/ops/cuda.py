"""The two ops on CUDA tensors by the compiled kernel cores, once ``use_kernels`` named a library.

Until then, and for element types that the kernels lack, the references compute on the GPU, too.
"""

from pathlib import Path
from typing import List, Optional, Tuple

import torch

from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.ops.padded_nms import padded_nms_reference
from trtyard.pipeline.ops.roi_align import (
    AVERAGE,
    has_channels_last,
    new_pooled,
    roi_align_reference,
)

# As in plugins/include/trtyard_kernels.h.
ELEMENT_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
FORMATS = {False: 0, True: 1}  # whether channels are last

_libraries: List[KernelLibrary] = []  # the one in use, or none


def use_kernels(path: Optional[Path]) -> None:
    """Let the ops on CUDA tensors run the library at ``path``; None: the references again.

    Raises:
        EnvironmentLacksError: the file cannot be loaded, or was built for another interface.
    """
    _libraries[:] = [] if path is None else [KernelLibrary(path)]


def _library_for(tensor: torch.Tensor) -> Optional[KernelLibrary]:
    return _libraries[0] if _libraries and tensor.dtype in ELEMENT_TYPES else None


def _workspace(size: int, device: torch.device) -> torch.Tensor:
    # torch's allocator aligns to 512 bytes, the kernels want 256.
    return torch.empty(max(1, size), dtype=torch.uint8, device=device)


def padded_nms_cuda(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """See ``padded_nms_reference``; boxes and scores are on one CUDA device."""
    if boxes.dtype != scores.dtype:
        boxes, scores = boxes.float(), scores.float()
    library = _library_for(scores)
    if library is None:
        return padded_nms_reference(
            boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset
        )
    boxes, scores = boxes.contiguous(), scores.contiguous()
    batch, classes, count = scores.shape
    with torch.cuda.device(scores.device):
        indices = scores.new_empty((batch, keep_top_k), dtype=torch.int32)
        kept = scores.new_empty((batch,), dtype=torch.int32)
        size = library.size("trtyard_padded_nms_workspace", batch, classes, count, keep_top_k)
        workspace = _workspace(size, scores.device)
        library.launch(
            "trtyard_padded_nms",
            boxes.data_ptr(),
            scores.data_ptr(),
            indices.data_ptr(),
            kept.data_ptr(),
            batch,
            classes,
            boxes.shape[1],
            count,
            keep_top_k,
            iou_threshold,
            score_threshold,
            box_offset,
            ELEMENT_TYPES[scores.dtype],
            workspace.data_ptr(),
            size,
            torch.cuda.current_stream().cuda_stream,
        )
    return indices, kept


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
    """See ``roi_align_reference``; all three are on one CUDA device."""
    library = _library_for(features)
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
    last = has_channels_last(features)
    features = features if last else features.contiguous()
    rois, batch_indices = rois.float().contiguous(), batch_indices.int().contiguous()
    sizes = (*features.shape, rois.shape[0], output_height, output_width)
    with torch.cuda.device(features.device):
        shape = (rois.shape[0], features.shape[1], output_height, output_width)
        pooled = new_pooled(features, shape)
        size = library.size("trtyard_roi_align_workspace", *sizes)
        workspace = _workspace(size, features.device)
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
