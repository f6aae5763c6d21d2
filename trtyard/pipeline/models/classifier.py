"""torchvision's classification models by name, and what every classifier of pictures shares."""

import re
import warnings
from collections import OrderedDict
from typing import Callable, Optional, Tuple

import numpy as np
import torch
from PIL import Image

from trtyard.core.errors import UsageError
from trtyard.core.report import BICUBIC, BILINEAR, CROP, Preprocess
from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.checkpoint_keys import State
from trtyard.pipeline.models.families.classifier import KIND
from trtyard.pipeline.models.image_inputs import NAME, ImageInputs, read_images
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.network_seeding import seed_classifier
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.published import Look, look_of
from trtyard.pipeline.torch_support.versions import classifier_names, untrained_classifier

__all__ = ["classifier_names", "load_classifier", "network_input"]

# Of ImageNet, for RGB in 0..1. torchvision's published weights were trained with them.
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
# As in torchvision's evaluation of most models.
USUAL = Look(256, DEFAULT_SIZE, MEANS, DEVIATIONS)
MAXIMUM_SIZE = 2048

# Without init_weights=False these two warn, and draw truncated normals for minutes.
_WITHOUT_OWN_INIT = ("googlenet", "inception_v3")
# Their published weights come from another framework, whose normalization the module repeats.
_TRANSFORMING = ("googlenet", "inception_v3")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_RESAMPLES = {BILINEAR: Image.BILINEAR, BICUBIC: Image.BICUBIC}


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
    known = choice.published(name)
    look = look_of(known) or USUAL
    asked = image_inputs(name, size, input_shape, look.cropped)
    for each in asked.sides:
        require_side(name, each, 1, MAXIMUM_SIZE, DEFAULT_SIZE, input_shape)
    is_transforming = known is not None and name in _TRANSFORMING
    return classifier_of(
        *(name, lambda: _build(name, is_transforming), choice, image, asked, look),
        renamed=_renamed,
    )


def classifier_of(
    name: str,
    build: Callable[[], torch.nn.Module],
    choice: Choice,
    image: Optional[str],
    asked: ImageInputs,
    look: Look = USUAL,
    usual_size: int = DEFAULT_SIZE,
    renamed: Callable[[str, State], State] = lambda _, state: state,
) -> Model:
    """Return a classifier of pictures, with the output ``logits``.

    Args:
        name: as the user typed it.
        build: returns the module in eval mode.
        choice: seeded weights or a state dict.
        image: path of a picture; None for the default one.
        asked: the shape of the pictures.
        look: how a picture becomes the input.
        usual_size: for the hint of an error.
        renamed: gives the weights of the named model the names of today's module.

    Raises:
        UsageError: picture, weights or size are not supported.
    """
    side = max(asked.height, asked.width)
    picture = read_picture(image)

    def picture_at(height: int, width: int) -> torch.Tensor:
        return crop(picture.rgb, height, width, look)

    images = asked.draw(picture_at)
    module = build()
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        state, notes = choice.read()
        fit(module, renamed(name, state), choice.file)
    module.requires_grad_(False)
    try:
        if choice.file is None:
            # With the default picture, so that the weights do not depend on this run's picture.
            usual = network_input(read_picture().rgb, side, look)
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
        prepare=lambda rgb: asked.repeated(crop(rgb, asked.height, asked.width, look)),
        preprocess=preprocess(side, look),
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


def crop(rgb: np.ndarray, height: int, width: int, look: Look = USUAL) -> torch.Tensor:
    """Return float32 [1, 3, height, width]: the middle of the square ``network_input``."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = network_input(rgb, side, look)
    return square[:, :, top : top + height, left : left + width].contiguous()


def preprocess(side: int, look: Look = USUAL) -> Preprocess:
    """Return what ``network_input`` does, for the report."""
    shorter = _shorter_side(side, look)
    facts = Preprocess(CROP, "RGB", 255.0, look.mean, look.deviation, shorter)
    return facts._replace(resample=look.resample, as_torchvision=look.as_torchvision)


def _shorter_side(side: int, look: Look) -> int:
    """Return the shorter side of the picture from which a square of ``side`` pixels is cropped."""
    return -(-side * look.resized // look.cropped)


def network_input(rgb: np.ndarray, side: int, look: Look = USUAL) -> torch.Tensor:
    """Return float32 [1, 3, side, side]: resized, cropped from the middle, and normalised.

    Args:
        rgb: uint8 [H, W, 3].
        side: in pixels.
        look: how the picture is resized and normalized.
    """
    height, width = rgb.shape[:2]
    shorter = _shorter_side(side, look)
    shortest = min(height, width)
    if look.as_torchvision:
        size = shorter * width // shortest, shorter * height // shortest
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        factors = size[0] / width, size[1] / height
    else:
        factors = shorter / shortest, shorter / shortest
        size = max(shorter, round(width * factors[0])), max(shorter, round(height * factors[1]))
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
    # Only the crop is computed, so a very long picture costs no more than a square.
    across, down = factors
    box = (left / across, top / down, (left + side) / across, (top + side) / down)
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    resized = Image.fromarray(rgb).resize((side, side), _RESAMPLES[look.resample], box=box)
    unit = torch.from_numpy(np.array(resized)).float() / 255
    return (
        ((unit - torch.tensor(look.mean)) / torch.tensor(look.deviation))
        .permute(2, 0, 1)[None]
        .contiguous()
    )


def _renamed(name: str, state: State) -> State:
    """Return the weights of a densenet with the names of today's module.

    The published files have names of before torchvision 0.3, such as ``norm.1.weight``.
    """
    if not name.startswith("densenet"):
        return state
    return OrderedDict((_OLD_DENSENET.sub(r"\1\2", key), value) for key, value in state.items())


def _build(name: str, is_transforming: bool) -> torch.nn.Module:
    options = {"init_weights": False} if name in _WITHOUT_OWN_INIT else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about its own constructors
        module = untrained_classifier(name, **options).eval()
    if is_transforming:
        module.transform_input = True
    return module
