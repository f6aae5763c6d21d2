"""torchvision's classification models by name, and what every classifier of pictures shares."""

import warnings
from typing import Callable, NamedTuple, Optional, Tuple

import numpy as np
import torch
from PIL import Image

from trtyard.core.errors import UsageError
from trtyard.core.report import BICUBIC, BILINEAR, CROP, Preprocess
from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.families.classifier import KIND
from trtyard.pipeline.models.image_inputs import NAME, ImageInputs, read_images
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.network_seeding import seed_classifier
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.versions import classifier_names, untrained_classifier

__all__ = ["classifier_names", "load_classifier", "network_input"]

# Of ImageNet, for RGB in 0..1. torchvision's published weights were trained with them.
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
# A picture is resized by this ratio to the crop, as in torchvision's evaluation (256 to 224).
_RESIZED, _CROPPED = 256, 224
MAXIMUM_SIZE = 2048

_FILTERS = {BILINEAR: Image.BILINEAR, BICUBIC: Image.BICUBIC}

# Without init_weights=False these two warn, and draw truncated normals for minutes.
_WITHOUT_OWN_INIT = ("googlenet", "inception_v3")


class Recipe(NamedTuple):
    """How a picture becomes a classifier's input."""

    means: Tuple[float, ...]
    deviations: Tuple[float, ...]
    shorter_side: Callable[[int], int]  # of the resized picture, from that of the cropped square
    resample: str = BILINEAR


def _shorter_side(side: int) -> int:
    """Return the shorter side of the picture from which a square of ``side`` pixels is cropped."""
    return -(-side * _RESIZED // _CROPPED)


TORCHVISION = Recipe(MEANS, DEVIATIONS, _shorter_side)


def load_classifier(
    name: str,
    choice: Choice,
    image: Optional[str],
    size: Optional[int],
    input_shape: Optional[str] = None,
) -> Model:
    """Return the classifier ``name`` for one picture, with the output ``logits``.

    Args:
        name: one of ``classifier_names``.
        choice: seeded weights or a state dict of torchvision's.
        image: path of a picture; None for the default one.
        size: side of the square that is cropped from the picture; None for 224.
        input_shape: such as "1..8x3x224x224", in place of ``size``.

    Raises:
        UsageError: picture, weights or size are not supported.
    """
    asked = image_inputs(name, size, input_shape, DEFAULT_SIZE)
    for each in asked.sides:
        require_side(name, each, 1, MAXIMUM_SIZE, DEFAULT_SIZE, input_shape)
    return classifier_of(name, lambda: _build(name), choice, image, asked)


def classifier_of(
    name: str,
    build: Callable[[], torch.nn.Module],
    choice: Choice,
    image: Optional[str],
    asked: ImageInputs,
    recipe: Recipe = TORCHVISION,
    usual_size: int = DEFAULT_SIZE,
) -> Model:
    """Return a classifier of pictures, with the output ``logits``.

    Args:
        name: as the user typed it.
        build: returns the module in eval mode.
        choice: seeded weights or a state dict.
        image: path of a picture; None for the default one.
        asked: the shape of the pictures.
        recipe: how a picture becomes the input.
        usual_size: for the hint of an error.

    Raises:
        UsageError: picture, weights or size are not supported.
    """
    side = max(asked.height, asked.width)
    picture = read_picture(image)

    def picture_at(height: int, width: int) -> torch.Tensor:
        return crop(picture.rgb, height, width, recipe)

    images = asked.draw(picture_at)
    module = build()
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        state, notes = choice.read()
        fit(module, state, choice.file)
    module.requires_grad_(False)
    try:
        if choice.file is None:
            # With the default picture, so that the weights do not depend on this run's picture.
            usual = network_input(read_picture().rgb, side, recipe)
            seed_classifier(module, choice.seed, usual)
        else:
            module(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{name} cannot take {asked.width}x{asked.height} pixels: {reason}",
            f"--size {usual_size}",
        ) from error
    return Model(
        name=name,
        kind=KIND.name,
        module=module,
        input_names=(NAME,),
        output_names=("logits",),
        inputs=(images,),
        weights=choice.facts(module),
        picture=picture,
        scale=(1.0, 1.0),
        notes=notes,
        dynamic=asked.dynamic(picture_at),
        prepare=lambda rgb: asked.repeated(crop(rgb, asked.height, asked.width, recipe)),
        preprocess=preprocess(side, recipe),
    )


def image_inputs(
    name: str, size: Optional[int], input_shape: Optional[str], default: int
) -> ImageInputs:
    """Return the pictures that ``--size`` or ``--input`` ask for, squares of ``default`` without.

    Raises:
        UsageError: see ``read_images``.
    """
    if input_shape is not None:
        return read_images(input_shape, name, size, sides_vary=True)
    side = default if size is None else size
    return ImageInputs(1, side, side)


def crop(rgb: np.ndarray, height: int, width: int, recipe: Recipe = TORCHVISION) -> torch.Tensor:
    """Return float32 [1, 3, height, width]: the middle of the square ``network_input``."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return network_input(rgb, side, recipe)[
        :, :, top : top + height, left : left + width
    ].contiguous()


def preprocess(side: int, recipe: Recipe = TORCHVISION) -> Preprocess:
    """Return what ``network_input`` does, for the report."""
    shorter = recipe.shorter_side(side)
    facts = Preprocess(CROP, "RGB", 255.0, recipe.means, recipe.deviations, shorter)
    return facts._replace(resample=recipe.resample)


def network_input(rgb: np.ndarray, side: int, recipe: Recipe = TORCHVISION) -> torch.Tensor:
    """Return float32 [1, 3, side, side]: resized, cropped from the middle, and normalised.

    Args:
        rgb: uint8 [H, W, 3].
        side: in pixels.
        recipe: sizes, filter, means and deviations.
    """
    height, width = rgb.shape[:2]
    shorter = recipe.shorter_side(side)
    factor = shorter / min(height, width)
    size = max(shorter, round(width * factor)), max(shorter, round(height * factor))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    # Only the crop is computed, so a very long picture costs no more than a square.
    box = tuple(edge / factor for edge in (left, top, left + side, top + side))
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    resized = Image.fromarray(rgb).resize((side, side), _FILTERS[recipe.resample], box=box)
    unit = torch.from_numpy(np.array(resized)).float() / 255
    return (
        ((unit - torch.tensor(recipe.means)) / torch.tensor(recipe.deviations))
        .permute(2, 0, 1)[None]
        .contiguous()
    )


def _build(name: str) -> torch.nn.Module:
    options = {"init_weights": False} if name in _WITHOUT_OWN_INIT else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about its own constructors
        return untrained_classifier(name, **options).eval()
