"""torchvision's models for semantic segmentation, by name."""

from typing import Optional, Tuple

import torch

from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.classifier import MAXIMUM_SIZE, network_input
from trtyard.pipeline.models.families.segmenter import KIND
from trtyard.pipeline.models.flat_outputs import with_named_outputs
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.network_seeding import seed_network
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.versions import segmenter_names, untrained_segmenter

__all__ = ["load_segmenter", "segmenter_names"]

# The shorter side of a picture in torchvision's evaluation.
DEFAULT_SIZE = 520
MINIMUM_SIZE = 32
_AUXILIARY = "aux_classifier."


def load_segmenter(name: str, choice: Choice, image: Optional[str], size: Optional[int]) -> Model:
    """Return the model ``name`` for one picture; its outputs are called as in torchvision's dict.

    These are ``out``, and ``aux`` where a checkpoint holds the auxiliary classifier: float32
    [1, classes, size, size].

    Args:
        name: one of ``segmenter_names``.
        choice: seeded weights or a state dict of torchvision's.
        image: path of a picture; None for the default one.
        size: side of the square that is cropped from the picture; None for 520.

    Raises:
        UsageError: picture, weights or size cannot be taken.
    """
    side = DEFAULT_SIZE if size is None else size
    require_side(name, side, MINIMUM_SIZE, MAXIMUM_SIZE, DEFAULT_SIZE)
    picture = read_picture(image)
    images = network_input(picture.rgb, side)
    notes: Tuple[str, ...] = ()
    if choice.file is None:
        module = untrained_segmenter(name).eval()
        # By the default picture: weights that hang on this run's would be other ones for each.
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
        input_names=("images",),
        output_names=output_names,
        inputs=(images,),
        weights=weights,
        picture=picture,
        scale=(1.0, 1.0),
        notes=notes,
        prepare=lambda rgb: network_input(rgb, side),
    )
