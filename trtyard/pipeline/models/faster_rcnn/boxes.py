"""Box arithmetic of the legacy kind, in which a box's width is x2 - x1 + 1."""

from typing import Sequence

import torch

from trtyard.pipeline.models.faster_rcnn.conventions import BOX_OFFSET, LOG_SCALE_LIMIT


def decode(deltas: torch.Tensor, boxes: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Move and scale boxes by what the network regressed.

    Args:
        deltas: float32 [..., 4], (dx, dy, dw, dh) times the weights.
        boxes: float32 [..., 4], (x1, y1, x2, y2) in pixels; broadcast against deltas.
        weights: what the regression targets were multiplied by in training.

    Returns:
        float32 [..., 4], (x1, y1, x2, y2), not clipped.

    Source: Ren et al., Faster R-CNN (2015), equation 2, with widths that count both edge pixels.
    """
    sides = boxes[..., 2:] - boxes[..., :2] + BOX_OFFSET
    centers = boxes[..., :2] + 0.5 * sides
    deltas = deltas / torch.tensor(weights, device=deltas.device)
    new_centers = deltas[..., :2] * sides + centers
    new_sides = torch.exp(torch.clamp(deltas[..., 2:], max=LOG_SCALE_LIMIT)) * sides
    return torch.cat(
        (new_centers - 0.5 * new_sides, new_centers + 0.5 * new_sides - BOX_OFFSET), dim=-1
    )


def clip(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return boxes [..., 4] moved into the picture: 0 to width - 1 and 0 to height - 1."""
    right, bottom = float(width - BOX_OFFSET), float(height - BOX_OFFSET)
    limits = torch.tensor((right, bottom, right, bottom), device=boxes.device)
    return torch.minimum(torch.clamp(boxes, min=0.0), limits)
