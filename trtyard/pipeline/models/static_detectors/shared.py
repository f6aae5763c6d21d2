"""Replacements that all of torchvision's detectors share: one image, fixed sizes, fixed anchors."""

import contextlib
from typing import Any, Iterator, List, Sequence, Tuple

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.torch_support.versions import keep_beside_weights, untraced

# True for torch 1.4. Newer releases return the middle, 0.5.
_ONE_PIXEL_IS_FIRST_CELL = (
    float(
        functional.interpolate(
            torch.tensor([[[[0.0, 1.0]]]]), size=(1, 1), mode="bilinear", align_corners=False
        )
    )
    == 0.0
)
_ANCHORS = "fixed_anchors"
_GENERATORS = ("AnchorGenerator", "DefaultBoxGenerator")


@contextlib.contextmanager
def anchors_kept(detector: nn.Module) -> Iterator[None]:
    """Run the detector inside the block: its anchor generators keep their anchors as constants."""
    hooks = [
        each.register_forward_hook(_keep_anchors)
        for each in detector.modules()
        if type(each).__name__ in _GENERATORS
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keep_anchors(generator: Any, _inputs: Any, output: Any) -> None:
    keep_beside_weights(generator, _ANCHORS, output[0].detach().clone())


def fixed_anchors(self: Any, _image_list: Any, _feature_maps: Any) -> List[torch.Tensor]:
    """Return the anchors that ``anchors_kept`` kept, float32 [N, 4], in place of ``forward``."""
    return [getattr(self, _ANCHORS)]


def plain_size(image: torch.Tensor) -> Tuple[int, int]:
    """Return height and width as numbers, which a trace does not follow."""
    with untraced():
        height, width = image.shape[-2:]
        return int(height), int(width)


def with_rows(values: torch.Tensor, count: int, value: float) -> torch.Tensor:
    """Return ``values`` [N, ...] and ``count`` rows of ``value`` behind them.

    Not with ``pad``: ONNX Runtime's CUDA provider has no Pad of integers.
    """
    if count == 0:
        return values
    shape = (count, *values.shape[1:])
    return torch.cat([values, torch.full(shape, value, dtype=values.dtype, device=values.device)])


def cells_per_pixel(cells: int, length: torch.Tensor) -> torch.Tensor:
    """Return how many cells of a map a pixel covers if ``interpolate`` enlarges it, as ``length``.

    Torch 1.4 returns the first cell if the result is one pixel long.

    Args:
        cells: of the map's side.
        length: pixels of the enlarged side, float32, from 1.
    """
    scale = cells / length
    if _ONE_PIXEL_IS_FIRST_CELL:
        return torch.where(length > 1, scale, torch.zeros_like(scale))
    return scale


def transform_one(self: Any, images: Sequence[torch.Tensor], targets: Any = None) -> Any:
    """Normalize, resize and pad one image, in place of ``GeneralizedRCNNTransform.forward``."""
    (image,) = images
    image, _ = self.resize(self.normalize(image), None)
    height, width = plain_size(image)
    divisor = int(getattr(self, "size_divisible", 32))  # torchvision 0.5 has it as an argument
    below, right = -height % divisor, -width % divisor
    padded = functional.pad(image, (0, right, 0, below))[None]
    return ImageList(padded, [(height, width)]), targets


def resize_boxes(boxes: torch.Tensor, original_size: Any, new_size: Any) -> torch.Tensor:
    """Scale boxes [N, 4] from one image size to another, in place of torchvision's.

    The ratios are constants, computed in float32 as there.
    """
    with untraced():
        ratios = [
            torch.tensor(float(new)) / torch.tensor(float(old))
            for new, old in zip(new_size, original_size)
        ]
        height, width = (float(each) for each in ratios)
    if height == width == 1.0:
        return boxes
    ratio = [width, height, width, height]
    return boxes * torch.tensor(ratio, dtype=boxes.dtype, device=boxes.device)


_TRANSFORM = "torchvision.models.detection.transform."
_ANCHORS_NOW = "torchvision.models.detection.anchor_utils."
_ANCHORS_0_5 = "torchvision.models.detection.rpn."

TRANSFORM = Rewrite(
    _TRANSFORM + "GeneralizedRCNNTransform.forward",
    {
        "0.5": "727ecffa61ff",
        "0.17": "cb40d361bf73",
        "0.27": "9e37ae84dbb9",
        "0.28": "9e37ae84dbb9",
    },
    transform_one,
)
RESIZE_BOXES = Rewrite(
    _TRANSFORM + "resize_boxes",
    {
        "0.5": "02ab1280ce78",
        "0.17": "f53d7b1f7569",
        "0.27": "345f32a9fff3",
        "0.28": "345f32a9fff3",
    },
    resize_boxes,
)
ANCHOR_GENERATOR = Rewrite(
    _ANCHORS_NOW + "AnchorGenerator.forward",
    {"0.17": "26dbf88e6618", "0.27": "4510ae86c4b3", "0.28": "4510ae86c4b3"},
    fixed_anchors,
)
ANCHOR_GENERATOR_0_5 = Rewrite(
    _ANCHORS_0_5 + "AnchorGenerator.forward", {"0.5": "409a5926806a"}, fixed_anchors
)
DEFAULT_BOXES = Rewrite(
    _ANCHORS_NOW + "DefaultBoxGenerator.forward",
    {"0.17": "85564cd1ef39", "0.27": "fae5ab57a21b", "0.28": "fae5ab57a21b"},
    fixed_anchors,
)
