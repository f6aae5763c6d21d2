"""The static form of torchvision's keypoints: the highest place of enlarged heatmaps."""

from typing import Any, List, NamedTuple, Tuple

import torch

from trtyard.pipeline.models.static_detectors.padded_boxes import NO_SCORE
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import cells_per_pixel, plain_size

# Of bicubic interpolation in torch.
_CUBIC = -0.75
# Cells beyond the heatmap's border on each side, which repeat the border.
_BORDER = 2


class _Side(NamedTuple):
    """The enlarged heatmaps along one side of the picture."""

    weights: torch.Tensor  # float32 [N, P, S]: of each pixel, for the cells with their border
    inside: torch.Tensor  # bool [N, P], the pixels that a heatmap has
    first: torch.Tensor  # float32 [N], where the box begins
    step: torch.Tensor  # float32 [N], of a pixel of the heatmap in the picture


def heatmaps_kept(x: torch.Tensor, _boxes: Any) -> Tuple[List[torch.Tensor], List[torch.Tensor]]:
    """Return the heatmaps twice, in place of ``keypointrcnn_inference``.

    The size of the picture, which limits the heatmaps', is known only in ``finish``.
    """
    return [x], [x]


def keypoints_of(
    heatmaps: torch.Tensor, boxes: torch.Tensor, size: Tuple[int, int]
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the keypoints of heatmaps, as ``heatmaps_to_keypoints`` does.

    torchvision enlarges each heatmap to its box's size. Here all have the picture's size, and the
    pixels beyond a box never win. Bicubic interpolation is separable: an enlarged heatmap is
    Wy * M * Wx^T, with a matrix for each side that has a row for each pixel. One keypoint after the
    other, because an enlarged heatmap is large.

    Args:
        heatmaps: float32 [N, K, M, M], logits.
        boxes: float32 [N, 4].
        size: (height, width) of the picture that clips the boxes.

    Returns:
        keypoints: float32 [N, K, 3], (x, y, 1) in pixels.
        scores: float32 [N, K].
    """
    cells, _ = plain_size(heatmaps)
    down = _side(boxes[:, 1], boxes[:, 3], size[0], cells)
    across = _side(boxes[:, 0], boxes[:, 2], size[1], cells)
    inside = down.inside[:, :, None] & across.inside[:, None]
    cell = torch.arange(-_BORDER, cells + _BORDER, device=boxes.device).clamp(0, cells - 1)
    bordered = torch.index_select(torch.index_select(heatmaps, 2, cell), 3, cell)
    first_row = torch.arange(boxes.shape[0], device=boxes.device) * size[0]
    # One value: the exporter would write full_like as a constant of the heatmaps' size.
    no_score = torch.full((1, 1, 1), NO_SCORE, dtype=heatmaps.dtype, device=heatmaps.device)
    places, scores = [], []
    for number in range(heatmaps.shape[1]):
        wide = torch.matmul(bordered[:, number], across.weights.transpose(1, 2))
        whole = torch.matmul(down.weights, wide)
        whole = torch.where(inside, whole, no_score)
        y = torch.argmax(torch.max(whole, 2)[0], 1)
        row = torch.index_select(whole.reshape(-1, size[1]), 0, first_row + y)
        x = torch.argmax(row, 1)
        places.append(
            torch.stack([_place(x, across), _place(y, down), torch.ones_like(down.step)], 1)
        )
        scores.append(torch.max(row, 1)[0])
    return torch.stack(places, 1), torch.stack(scores, 1)


def _side(first: torch.Tensor, last: torch.Tensor, pixels: int, cells: int) -> _Side:
    """Return the heatmaps along a side; ``first`` and ``last`` are the boxes' corners, [N]."""
    length = torch.clamp(last - first, min=1.0)
    whole = torch.ceil(length)
    at = torch.arange(pixels, dtype=first.dtype, device=first.device)[None]
    # As interpolate(mode="bicubic", align_corners=False) computes it.
    source = (at + 0.5) * cells_per_pixel(cells, whole)[:, None] - 0.5
    cell = torch.arange(-_BORDER, cells + _BORDER, dtype=first.dtype, device=first.device)
    weights = _cubic(torch.abs(source[..., None] - cell))
    return _Side(weights, at < whole[:, None], first, length / whole)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Return the weight of a cell at a distance, float32.

    Source: Keys, Cubic Convolution Interpolation (1981), equation 15, with torch's coefficient.
    """
    near = ((_CUBIC + 2.0) * distance - (_CUBIC + 3.0)) * distance * distance + 1.0
    far = ((distance - 5.0) * distance + 8.0) * distance * _CUBIC - 4.0 * _CUBIC
    far = torch.where(distance < 2.0, far, torch.zeros_like(far))
    return torch.where(distance <= 1.0, near, far)


def _place(at: torch.Tensor, side: _Side) -> torch.Tensor:
    """Return the middle of a heatmap's pixel in the picture, float32 [N]."""
    return (at.to(side.step.dtype) + 0.5) * side.step + side.first


HEATMAPS = Rewrite(
    "torchvision.models.detection.roi_heads.keypointrcnn_inference",
    {
        "0.5": "3120dc923af0",
        "0.17": "b7578963abab",
        "0.27": "353b17f126c8",
        "0.28": "353b17f126c8",
    },
    heatmaps_kept,
)
