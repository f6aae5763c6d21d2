"""The two ops as torch operators, so that every exporter and compiler sees one node for each."""

from typing import Tuple

import torch

from trtyard.pipeline.ops.cuda import padded_nms_cuda, roi_align_cuda
from trtyard.pipeline.ops.padded_nms import padded_nms_reference
from trtyard.pipeline.ops.roi_align import new_pooled, roi_align_reference


@torch.library.custom_op("trtyard::padded_nms", mutates_args=())
def padded_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """See ``padded_nms_reference``."""
    return padded_nms_reference(
        boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset
    )


@padded_nms.register_fake
def _padded_nms_shapes(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    batch = scores.shape[0]
    indices = scores.new_empty((batch, keep_top_k), dtype=torch.int32)
    return indices, scores.new_empty((batch,), dtype=torch.int32)


@torch.library.custom_op("trtyard::roi_align", mutates_args=())
def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
    mode: int = 0,
) -> torch.Tensor:
    """See ``roi_align_reference``."""
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


@roi_align.register_fake
def _roi_align_shape(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
    mode: int = 0,
) -> torch.Tensor:
    shape = (rois.shape[0], features.shape[1], output_height, output_width)
    return new_pooled(features, shape)


padded_nms.register_kernel("cuda")(padded_nms_cuda)
roi_align.register_kernel("cuda")(roi_align_cuda)
