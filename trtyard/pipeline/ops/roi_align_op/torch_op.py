"""MaskRcnnROIAlign as a torch operator."""

from typing import Any

import torch

from trtyard.pipeline.ops.roi_align_op.contract import OP
from trtyard.pipeline.ops.roi_align_op.cuda import roi_align_cuda
from trtyard.pipeline.ops.roi_align_op.reference import (
    AVERAGE,
    new_pooled,
    roi_align_reference,
)
from trtyard.pipeline.ops.torch_op import records_gradients, torch_op


def _shapes(
    features: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    output_height: int,
    output_width: int,
    *others: Any,
) -> torch.Tensor:
    shape = (rois.shape[0], features.shape[1], output_height, output_width)
    return new_pooled(features, shape)


_operator = torch_op(OP, roi_align_reference, _shapes, on_cuda=roi_align_cuda)


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
    """Return RoIAlign over padded rois; see ``roi_align_reference``.

    In training the features get gradients, from the reference's own ops. The rois get none.
    """
    arguments = (
        batch_indices,
        output_height,
        output_width,
        spatial_scale,
        sampling_ratio,
        aligned,
        mode,
    )
    if records_gradients([features, rois]):
        return roi_align_reference(features, rois.detach(), *arguments)
    result: torch.Tensor = _operator(features, rois, *arguments)
    return result
