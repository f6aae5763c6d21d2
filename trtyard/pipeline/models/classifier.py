"""torchvision's classification models, by name."""

import warnings
from typing import Optional, Tuple

import numpy as np
import torch
from PIL import Image

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.families.classifier import KIND
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.network_seeding import seed_classifier
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.versions import classifier_names, untrained_classifier

__all__ = ["classifier_names", "load_classifier", "network_input"]

# Of ImageNet, for RGB in 0..1; the published torchvision weights are trained with them.
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
# A picture is resized to this much of the crop, as in torchvision's evaluation (256 to 224).
_RESIZED, _CROPPED = 256, 224
MAXIMUM_SIZE = 2048

# Without it these two warn and draw truncated normals for minutes, to be overwritten.
_WITHOUT_OWN_INIT = ("googlenet", "inception_v3")


def load_classifier(name: str, choice: Choice, image: Optional[str], size: Optional[int]) -> Model:
    """Return the classifier ``name`` for one picture; its one output is called ``logits``.

    Args:
        name: one of ``classifier_names``.
        choice: seeded weights or a state dict of torchvision's.
        image: path of a picture; None for the default one.
        size: side of the square that is cropped from the picture; None for 224.

    Raises:
        UsageError: picture or weights cannot be taken, or the model cannot take that size.
    """
    side = DEFAULT_SIZE if size is None else size
    require_side(name, side, 1, MAXIMUM_SIZE, DEFAULT_SIZE)
    picture = read_picture(image)
    images = network_input(picture.rgb, side)
    module = _build(name)
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        state, notes = choice.read()
        fit(module, state, choice.file)
    module.requires_grad_(False)
    try:
        if choice.file is None:
            # By the default picture: weights that hang on this run's would be other ones for each.
            seed_classifier(module, choice.seed, network_input(read_picture().rgb, side))
        else:
            module(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{name} cannot take {side}x{side} pixels: {reason}", f"--size {DEFAULT_SIZE}"
        ) from error
    return Model(
        name=name,
        kind=KIND.name,
        module=module,
        input_names=("images",),
        output_names=("logits",),
        inputs=(images,),
        weights=choice.facts(module),
        picture=picture,
        scale=(1.0, 1.0),
        notes=notes,
        prepare=lambda rgb: network_input(rgb, side),
    )


def network_input(rgb: np.ndarray, side: int) -> torch.Tensor:
    """Return float32 [1, 3, side, side]: resized, cropped from the middle, and normalised.

    Args:
        rgb: uint8 [H, W, 3].
        side: in pixels.
    """
    height, width = rgb.shape[:2]
    shorter = -(-side * _RESIZED // _CROPPED)
    factor = shorter / min(height, width)
    size = max(shorter, round(width * factor)), max(shorter, round(height * factor))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    # Only the crop is computed, so a very long picture costs no more than a square.
    box = tuple(edge / factor for edge in (left, top, left + side, top + side))
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    resized = Image.fromarray(rgb).resize((side, side), Image.BILINEAR, box=box)
    unit = torch.from_numpy(np.array(resized)).float() / 255
    return (
        ((unit - torch.tensor(MEANS)) / torch.tensor(DEVIATIONS))
        .permute(2, 0, 1)[None]
        .contiguous()
    )


def _build(name: str) -> torch.nn.Module:
    options = {"init_weights": False} if name in _WITHOUT_OWN_INIT else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's, about its own constructors
        return untrained_classifier(name, **options).eval()
