"""A detector of torchvision that the user's code makes, with arguments or classes of its own."""

from typing import Any, Optional, Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.families.own import DETECTOR
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.own_inputs import OwnInputs
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.torchvision_detector import (
    as_it_is,
    detector_model,
    network_input,
    padded_form,
)
from trtyard.pipeline.models.user_code import where
from trtyard.pipeline.models.weights import Choice

_SHAPE_LENGTH, _COLORS = 4, 3


def own_detector(
    detector: Any,
    spec: str,
    choice: Choice,
    asked: OwnInputs,
    image: Optional[str],
    detections: Optional[str],
) -> Model:
    """Return the detector for one picture, with the outputs of ``load_detector``.

    The picture is resized to the input's size, and the detector does not resize it again. An SSD
    still resizes it to its own size if that is another one.

    Args:
        detector: in eval mode, on the CPU.
        spec: the model as the user typed it.
        choice: a seed, or a checkpoint, which must fit exactly.
        asked: one input, float32 [1, 3, H, W].
        image: path of a picture; None for the default one.
        detections: PADDED, DYNAMIC, or None for padded.

    Raises:
        UsageError: the input has another shape, the checkpoint does not fit, the detector raises an
            error, or this torchvision has no padded form of it.
    """
    size = _size_of(asked, spec)
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        state, notes = choice.read()
        fit(detector, state, choice.file)
    weights = choice.facts(detector)
    if choice.file is None:
        weights = weights._replace(source=f"the model's own, torch seed {choice.seed}")
    detector.requires_grad_(False)
    if getattr(detector.transform, "fixed_size", None) in (None, size):
        detector.transform.resize = as_it_is
    picture = read_picture(image)
    form = padded_form(spec, detector, detections)
    images = network_input(picture.rgb, size)
    try:
        return detector_model(spec, DETECTOR.name, detector, form, images, picture, weights, notes)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"{spec}: the detector failed for a picture of {size[0]}x{size[1]} pixels: "
            f"{where(error)}",
            "fix this error in the model first",
        ) from error


def _size_of(asked: OwnInputs, spec: str) -> Tuple[int, int]:
    """Return width and height."""
    shape = asked.inputs[0].shape
    if (
        len(asked.inputs) != 1
        or asked.vary
        or len(shape) != _SHAPE_LENGTH
        or shape[:2] != (1, _COLORS)
        or asked.inputs[0].dtype != torch.float32
    ):
        raise UsageError(
            f"{spec} is a detector of torchvision: it takes one picture of a fixed size",
            "--input 1x3x480x640   (height and width)",
        )
    return shape[3], shape[2]
