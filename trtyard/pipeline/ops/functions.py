"""The two ops as autograd functions, for torch before 2.4: their tracer sees one node for each."""

from typing import Any, Tuple

import torch

from trtyard.pipeline.ops.cuda import padded_nms_cuda, roi_align_cuda
from trtyard.pipeline.ops.padded_nms import padded_nms_reference
from trtyard.pipeline.ops.roi_align import roi_align_reference

_DOMAIN = "trtyard"


class _PaddedNMS(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tuple[torch.Tensor, torch.Tensor]:
        run = padded_nms_cuda if arguments[1].is_cuda else padded_nms_reference
        indices, count = run(*arguments)
        ctx.mark_non_differentiable(indices, count)
        return indices, count

    @staticmethod
    def symbolic(
        graph: Any,
        boxes: Any,
        scores: Any,
        iou_threshold: float,
        score_threshold: float,
        keep_top_k: int,
        box_offset: int,
    ) -> Any:
        return graph.op(
            _DOMAIN + "::PaddedNMS",
            boxes,
            scores,
            iou_threshold_f=iou_threshold,
            score_threshold_f=score_threshold,
            keep_top_k_i=keep_top_k,
            box_offset_i=box_offset,
            outputs=2,
        )


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        run = roi_align_cuda if arguments[0].is_cuda else roi_align_reference
        pooled = run(*arguments)
        ctx.mark_non_differentiable(pooled)
        return pooled

    @staticmethod
    def symbolic(
        graph: Any,
        features: Any,
        rois: Any,
        batch_indices: Any,
        output_height: int,
        output_width: int,
        spatial_scale: float,
        sampling_ratio: int,
        aligned: int,
    ) -> Any:
        return graph.op(
            _DOMAIN + "::MaskRcnnROIAlign",
            features,
            rois,
            batch_indices,
            output_height_i=output_height,
            output_width_i=output_width,
            spatial_scale_f=spatial_scale,
            sampling_ratio_i=sampling_ratio,
            aligned_i=aligned,
        )


def padded_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """See ``padded_nms_reference``."""
    found: Tuple[torch.Tensor, torch.Tensor] = _PaddedNMS.apply(
        boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset
    )
    return found


def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> torch.Tensor:
    """See ``roi_align_reference``."""
    pooled: torch.Tensor = _RoiAlign.apply(
        features,
        rois,
        batch_indices,
        output_height,
        output_width,
        spatial_scale,
        sampling_ratio,
        aligned,
    )
    return pooled
