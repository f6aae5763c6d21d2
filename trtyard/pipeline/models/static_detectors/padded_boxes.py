"""Boxes with padding, for a two-stage detector whose shapes do not depend on values.

torchvision passes lists of boxes from its proposals to its heads. In the static form a list has a
fixed length, and its last rows are padding. Such a row has negative corners, which no clipped box
has, so the functions between keep their arguments.
"""

import torch

from trtyard.pipeline.models.faster_rcnn.boxes import clip
from trtyard.pipeline.torch_support.versions import untraced

PADDED_CORNER = -1.0

# Below every score and every logit: a box with it never takes part in the suppression.
NO_SCORE = torch.finfo(torch.float32).min


def is_box(boxes: torch.Tensor) -> torch.Tensor:
    """Return which of the boxes [..., 4] are not padding, bool [...]."""
    return boxes[..., 0] >= 0


def with_padding(boxes: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return the boxes [N, 4], with padding in the rows that ``found``, bool [N], does not have."""
    return torch.where(found[:, None], boxes, torch.full_like(boxes, PADDED_CORNER))


def clipped(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return boxes [..., 4] clipped to a picture, as ``clip_boxes_to_image`` does."""
    with untraced():
        corner = torch.tensor([width, height], dtype=boxes.dtype, device=boxes.device)
        limits = torch.cat([corner, corner])
    return clip(boxes, limits)


def large_enough(boxes: torch.Tensor, side: float) -> torch.Tensor:
    """Return which boxes ``remove_small_boxes`` keeps, bool [...], of boxes [..., 4]."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides[..., 0] >= side) & (sides[..., 1] >= side)
