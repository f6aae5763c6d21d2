"""torchvision's models for semantic segmentation, by name."""

from typing import Optional, Tuple

import torch

from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.classifier import (
    MAXIMUM_SIZE,
    USUAL,
    crop,
    image_inputs,
    network_input,
    preprocess,
)
from trtyard.pipeline.models.families.segmenter import KIND
from trtyard.pipeline.models.flat_outputs import with_named_outputs
from trtyard.pipeline.models.image_inputs import NAME
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.network_seeding import seed_network
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.published import look_of
from trtyard.pipeline.torch_support.versions import segmenter_names, untrained_segmenter

__all__ = ["load_segmenter", "segmenter_names"]

# The shorter side of a picture in torchvision's evaluation.
DEFAULT_SIZE = 520
MINIMUM_SIZE = 32
_AUXILIARY = "aux_classifier."


def load_segmenter(
    name: str,
    choice: Choice,
    image: Optional[str],
    size: Optional[int],
    input_shape: Optional[str] = None,
) -> Model:
    """Return the model ``name`` for one picture, with the output names of torchvision's dict.

    These are ``out``, and ``aux`` if a checkpoint has the auxiliary classifier: float32
    [B, classes, H, W].

    Args:
        name: one of ``segmenter_names``.
        choice: seeded weights or a state dict of torchvision's.
        image: path of a picture; None for the default one.
        size: side of the square that is cropped from the picture; None for 520.
        input_shape: such as "1..4x3x256..512x512", in place of ``size``.

    Raises:
        UsageError: picture, weights or size are not supported.
    """
    look = look_of(choice.published(name)) or USUAL
    asked = image_inputs(name, size, input_shape, DEFAULT_SIZE)
    for each in asked.sides:
        require_side(name, each, MINIMUM_SIZE, MAXIMUM_SIZE, DEFAULT_SIZE, input_shape)
    side = max(asked.height, asked.width)
    picture = read_picture(image)

    def picture_at(height: int, width: int) -> torch.Tensor:
        return crop(picture.rgb, height, width, look)

    images = asked.draw(picture_at)
    notes: Tuple[str, ...] = ()
    if choice.file is None:
        module = untrained_segmenter(name).eval()
        # With the default picture, so that the weights do not depend on this run's picture.
        outputs = seed_network(module, choice.seed, network_input(read_picture().rgb, side))
    else:
        state, notes = choice.read()
        auxiliary = any(key.startswith(_AUXILIARY) for key in state)
        module = untrained_segmenter(name, **({"aux_loss": True} if auxiliary else {})).eval()
        fit(module, state, choice.file)
        with torch.no_grad():
            outputs = module(images)
    module.requires_grad_(False)
    weights = choice.facts(module)
    output_names, module = with_named_outputs(module, outputs, name)
    return Model(
        name=name,
        kind=KIND.name,
        module=module,
        input_names=(NAME,),
        output_names=output_names,
        inputs=(images,),
        weights=weights,
        picture=picture,
        scale=(1.0, 1.0),
        notes=notes,
        dynamic=asked.dynamic(picture_at),
        prepare=lambda rgb: asked.repeated(crop(rgb, asked.height, asked.width, look)),
        preprocess=preprocess(side, look),
    )
