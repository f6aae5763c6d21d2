"""torchvision's models for classification."""

from typing import TYPE_CHECKING, Sequence

from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.parity.kind import ANY, Kind
from trtyard.pipeline.parity.tolerance import LOGITS

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model

KIND = Kind("classifier", {ANY: LOGITS})


def names() -> Sequence[str]:
    """Return the names that this row's torchvision has."""
    from trtyard.pipeline.torch_support.versions import classifier_names

    return classifier_names()


def load(spec: str, options: Options) -> "Model":
    """Return the classifier; see ``load_classifier``."""
    from trtyard.pipeline.models.classifier import load_classifier

    return load_classifier(spec, options.choice, options.image, options.size, options.input_shape)


FAMILY = Family(
    KIND,
    ("--image", "--size", "--input"),
    "it takes --image, and --size or --input 1..8x3x224x224",
    load,
    names,
)
