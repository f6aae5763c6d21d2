"""PaddedNMS as a torch operator."""

from typing import Tuple

import torch

from trtyard.pipeline.ops.padded_nms_op.contract import OP
from trtyard.pipeline.ops.padded_nms_op.cuda import padded_nms_cuda
from trtyard.pipeline.ops.padded_nms_op.reference import PADDING, padded_nms_reference
from trtyard.pipeline.ops.torch_op import torch_op


def _shapes(
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


def _count(indices: torch.Tensor) -> torch.Tensor:
    return (indices != PADDING).sum(dim=1).to(torch.int32)


padded_nms = torch_op(
    OP, padded_nms_reference, _shapes, on_cuda=padded_nms_cuda, other_outputs=(_count,)
)
