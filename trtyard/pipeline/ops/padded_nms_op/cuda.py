"""PaddedNMS on CUDA tensors: the kernel, or the reference if there is no kernel."""

from typing import Tuple

import torch

from trtyard.pipeline.ops.cuda import ELEMENT_TYPES, library_for, refuse_other_devices, workspace_of
from trtyard.pipeline.ops.padded_nms_op.contract import OP
from trtyard.pipeline.ops.padded_nms_op.reference import check_arguments, padded_nms_reference


def padded_nms_cuda(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Compute ``padded_nms_reference`` for boxes and scores on one CUDA device."""
    if boxes.dtype != scores.dtype:
        boxes, scores = boxes.float(), scores.float()
    library = library_for(scores)
    if library is None:
        return padded_nms_reference(
            boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset
        )
    check_arguments(boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset)
    refuse_other_devices(OP, [boxes, scores])
    boxes, scores = boxes.contiguous(), scores.contiguous()
    batch, classes, count = scores.shape
    with torch.cuda.device(scores.device):
        indices = scores.new_empty((batch, keep_top_k), dtype=torch.int32)
        kept = scores.new_empty((batch,), dtype=torch.int32)
        size = library.size("trtyard_padded_nms_workspace", batch, classes, count, keep_top_k)
        workspace = workspace_of(size, scores.device)
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
