"""Legacy box arithmetic, in which a box's width is x2 - x1 + 1."""

from typing import Sequence

import torch

from trtyard.pipeline.models.faster_rcnn.conventions import BOX_OFFSET, LOG_SCALE_LIMIT
from trtyard.pipeline.torch_support.versions import minimum


def decode(deltas: torch.Tensor, boxes: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Return the boxes moved and scaled by the network's deltas.

    Args:
        deltas: float32 [..., 4], (dx, dy, dw, dh) times the weights.
        boxes: float32 [..., 4], (x1, y1, x2, y2) in pixels; broadcast against deltas.
        weights: factors of the regression targets (dx, dy, dw, dh) in training; equal for x and y,
            as in every published configuration.

    Returns:
        float32 [..., 4], (x1, y1, x2, y2), not clipped.

    Source: Ren et al., Faster R-CNN (2015), equation 2, with widths that count both edge pixels.
    """
    sides = boxes[..., 2:] - boxes[..., :2] + BOX_OFFSET
    centers = boxes[..., :2] + 0.5 * sides
    new_centers = deltas[..., :2] / weights[0] * sides + centers
    log_scales = torch.clamp(deltas[..., 2:] / weights[2], max=LOG_SCALE_LIMIT)
    new_sides = torch.exp(log_scales) * sides
    return torch.cat(
        (new_centers - 0.5 * new_sides, new_centers + 0.5 * new_sides - BOX_OFFSET), dim=-1
    )


def clip(boxes: torch.Tensor, last_pixels: torch.Tensor) -> torch.Tensor:
    """Return boxes [..., 4] clipped to the picture with these ``last_pixels``."""
    return minimum(torch.clamp(boxes, min=0.0), last_pixels)


def last_pixels(height: int, width: int) -> torch.Tensor:
    """Return the largest values of (x1, y1, x2, y2) in a picture, float32 [4]."""
    right, bottom = width - BOX_OFFSET, height - BOX_OFFSET
    return torch.tensor([right, bottom, right, bottom], dtype=torch.float32)
