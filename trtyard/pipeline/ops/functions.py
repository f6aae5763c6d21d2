"""The two ops as autograd functions, for torch before 2.4: their tracer sees one node for each."""

from typing import Any, Tuple

import torch

from trtyard.pipeline.ops.contracts import PADDED_NMS, ROI_ALIGN
from trtyard.pipeline.ops.cuda import padded_nms_cuda, roi_align_cuda
from trtyard.pipeline.ops.output_types import set_padded_nms_types, set_roi_align_types
from trtyard.pipeline.ops.padded_nms import PADDING, padded_nms_reference
from trtyard.pipeline.ops.roi_align import AVERAGE, roi_align_reference
from trtyard.pipeline.torch_support.versions import custom_node, untraced


class _PaddedNMS(torch.autograd.Function):
    """Gives the indices alone: torch 1.4 cannot export a function with two results.

    Its node has both outputs all the same.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        run = padded_nms_cuda if arguments[1].is_cuda else padded_nms_reference
        with untraced():
            indices, _ = run(*arguments)
        ctx.mark_non_differentiable(indices)
        return indices

    @staticmethod
    def symbolic(graph: Any, *arguments: Any) -> Any:
        outputs = custom_node(graph, PADDED_NMS, arguments)
        set_padded_nms_types(arguments, outputs)
        return outputs[0]


class _Count(torch.autograd.Function):
    """Gives the other output of the node that the indices come from."""

    @staticmethod
    def forward(ctx: Any, indices: torch.Tensor) -> torch.Tensor:
        with untraced():
            count = (indices != PADDING).sum(dim=1).to(torch.int32)
        ctx.mark_non_differentiable(count)
        return count

    @staticmethod
    def symbolic(_graph: Any, indices: Any) -> Any:
        return list(indices.node().outputs())[1]


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        run = roi_align_cuda if arguments[0].is_cuda else roi_align_reference
        with untraced():
            pooled = run(*arguments)
        ctx.mark_non_differentiable(pooled)
        return pooled

    @staticmethod
    def symbolic(graph: Any, *arguments: Any) -> Any:
        pooled = custom_node(graph, ROI_ALIGN, arguments)
        set_roi_align_types(arguments, pooled)
        return pooled


def padded_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """See ``padded_nms_reference``."""
    indices: torch.Tensor = _PaddedNMS.apply(
        boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset
    )
    return indices, _Count.apply(indices)


def roi_align(
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
        mode,
    )
    return pooled
