"""MaskRcnnROIAlign as a torch operator."""

from typing import Any

import torch

from trtyard.pipeline.ops.roi_align_op.contract import OP
from trtyard.pipeline.ops.roi_align_op.cuda import roi_align_cuda
from trtyard.pipeline.ops.roi_align_op.reference import new_pooled, roi_align_reference
from trtyard.pipeline.ops.torch_op import torch_op


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


roi_align = torch_op(OP, roi_align_reference, _shapes, on_cuda=roi_align_cuda)
