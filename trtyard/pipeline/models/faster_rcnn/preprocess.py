"""Turn a picture into the network's input, as maskrcnn-benchmark does at test time."""

from typing import Any, Tuple

import numpy as np
import torch
from PIL import Image

from trtyard.pipeline.models.faster_rcnn.conventions import LONGER_SIDE_LIMIT, PIXEL_MEANS_BGR


def resized_size(width: int, height: int, shorter_side: int) -> Tuple[int, int]:
    """Return (width, height) of a picture resized by its shorter side.

    If the longer side would exceed its limit, the shorter side is reduced and rounded. The longer
    side is then truncated to a whole number. Both can differ by a pixel from other projects.
    """
    shorter, longer = float(min(width, height)), float(max(width, height))
    size = shorter_side
    if longer / shorter * size > LONGER_SIDE_LIMIT:
        size = max(1, round(LONGER_SIDE_LIMIT * shorter / longer))
    if width < height:
        return size, int(size * height / width)
    return int(size * width / height), size


def network_input(rgb: Any, shorter_side: int) -> torch.Tensor:
    """Return float32 [1, 3, H, W], BGR in 0..255 minus the pixel means.

    Args:
        rgb: numpy uint8 [H, W, 3].
        shorter_side: of the result, in pixels.
    """
    height, width = rgb.shape[:2]
    return resized_input(rgb, *resized_size(width, height, shorter_side))


def resized_input(rgb: Any, width: int, height: int) -> torch.Tensor:
    """Return float32 [1, 3, height, width], as ``network_input`` does."""
    resized = np.asarray(Image.fromarray(rgb).resize((width, height), Image.BILINEAR))
    bgr = torch.from_numpy(np.ascontiguousarray(resized[:, :, ::-1].transpose(2, 0, 1))).float()
    return (bgr - torch.tensor(PIXEL_MEANS_BGR)[:, None, None])[None]
