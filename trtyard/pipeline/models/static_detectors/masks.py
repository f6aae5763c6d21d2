"""The static form of torchvision's masks: a fixed number, each pasted by two products."""

from typing import List, Tuple

import torch
from torch.nn import functional

from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import cells_per_pixel, plain_size
from trtyard.pipeline.torch_support.versions import untraced

_PADDING = 1  # as in paste_masks_in_image


def mask_of_label(x: torch.Tensor, labels: List[torch.Tensor]) -> List[torch.Tensor]:
    """Return the mask of each detection's class, in place of ``maskrcnn_inference``.

    Args:
        x: float32 [N, C, M, M], logits.
        labels: a list with one tensor, int64 [N].

    Returns:
        A list with one tensor, float32 [N, 1, M, M].
    """
    (label,) = labels
    count, classes, side = label.shape[0], x.shape[1], x.shape[2]
    first = torch.arange(count, dtype=label.dtype, device=label.device) * classes
    chosen = torch.index_select(x.reshape(count * classes, 1, side, side), 0, first + label)
    return [torch.sigmoid(chosen)]


def pasted(masks: torch.Tensor, boxes: torch.Tensor, size: Tuple[int, int]) -> torch.Tensor:
    """Return masks at their boxes' places in the picture, as ``paste_masks_in_image`` does.

    Bilinear interpolation is separable: a mask of the picture's size is Wy * M * Wx^T, with a
    matrix for each side that has a row for each pixel.

    Args:
        masks: float32 [N, 1, M, M].
        boxes: float32 [N, 4].
        size: (height, width) of the picture.

    Returns:
        float32 [N, 1, H, W].
    """
    cells, _ = plain_size(masks)
    side = cells + 2 * _PADDING
    scale = float(side) / cells
    centers = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    halves = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
    first, last = _whole(centers - halves), _whole(centers + halves)
    down = _weights(first[:, 1], last[:, 1], size[0], side)
    across = _weights(first[:, 0], last[:, 0], size[1], side)
    padded = functional.pad(masks[:, 0], (_PADDING,) * 4)
    whole = torch.matmul(torch.matmul(down, padded), across.transpose(1, 2))
    with untraced():
        count = int(masks.shape[0])  # else the exporter of row 8.6 does not know the shape
    return whole.reshape(count, 1, *size)


def _whole(values: torch.Tensor) -> torch.Tensor:
    """Return values rounded towards zero.

    ONNX has no Trunc. Not a cast to int64 and back: ONNX Runtime 1.1 removes such a pair.
    """
    return torch.where(values < 0, torch.ceil(values), torch.floor(values))


def _weights(first: torch.Tensor, last: torch.Tensor, pixels: int, cells: int) -> torch.Tensor:
    """Return each pixel's weights of a mask's cells along a side, float32 [N, pixels, cells].

    Args:
        first: float32 [N], the pixel of the mask's first cell; whole numbers.
        last: float32 [N], the pixel of its last cell.
        pixels: of the picture's side.
        cells: of the mask's side.
    """
    at = torch.arange(pixels, dtype=first.dtype, device=first.device)[None]
    first, last = first[:, None], last[:, None]
    length = torch.clamp(last - first + 1.0, min=1.0)
    # As interpolate(mode="bilinear", align_corners=False) computes it.
    source = torch.clamp(
        (at - first + 0.5) * cells_per_pixel(cells, length) - 0.5, min=0.0, max=cells - 1.0
    )
    cell = torch.arange(cells, dtype=first.dtype, device=first.device)
    weights = torch.clamp(1.0 - torch.abs(source[..., None] - cell), min=0.0)
    inside = (at >= first) & (at <= last)
    return torch.where(inside[..., None], weights, torch.zeros_like(weights))


MASKS = Rewrite(
    "torchvision.models.detection.roi_heads.maskrcnn_inference",
    {
        "0.5": "b5cef453f682",
        "0.17": "b31dae13dfd2",
        "0.27": "8d4d0fec93ac",
        "0.28": "8d4d0fec93ac",
    },
    mask_of_label,
)
