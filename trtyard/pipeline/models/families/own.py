"""A user's own model: inputs and outputs are just tensors, except for a detector of torchvision."""

from typing import TYPE_CHECKING, List, Mapping, Sequence

import numpy as np

from trtyard.core.coco import OWN
from trtyard.pipeline.models.families import torchvision_detector
from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.parity.kind import ANY, Kind
from trtyard.pipeline.parity.padded import Detections, of_torchvision
from trtyard.pipeline.parity.tolerance import VALUES

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model

KIND = Kind("tensor", {ANY: VALUES}, may_hold_float16=True)


def _detections(outputs: Mapping[str, np.ndarray]) -> List[Detections]:
    return [of_torchvision(outputs)._replace(numbering=OWN)]


DETECTOR = torchvision_detector.KIND._replace(name="own_detector", detections=_detections)


def names() -> Sequence[str]:
    """Return no names: own models are recognized by their colon."""
    return ()


def load(spec: str, options: Options) -> "Model":
    """Return the model; see ``load_own``."""
    from trtyard.pipeline.models.own import load_own

    return load_own(spec, options.choice, options.input_shape, options.image, options.detections)


FAMILY = Family(
    KIND,
    ("--input", "--image", "--detections"),
    "a model of your own takes --input",
    load,
    names,
    is_own=True,
    other_kinds=(DETECTOR,),
)
