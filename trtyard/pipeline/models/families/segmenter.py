"""torchvision's models for semantic segmentation."""

from typing import TYPE_CHECKING, Sequence

from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.parity.kind import ANY, Kind
from trtyard.pipeline.parity.tolerance import LOGITS

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model

KIND = Kind("segmenter", {ANY: LOGITS})


def names() -> Sequence[str]:
    """Return the names that this row's torchvision has."""
    from trtyard.pipeline.torch_support.versions import segmenter_names

    return segmenter_names()


def load(spec: str, options: Options) -> "Model":
    """Return the model; see ``load_segmenter``."""
    from trtyard.pipeline.models.segmenter import load_segmenter

    return load_segmenter(spec, options.choice, options.image, options.size, options.input_shape)


FAMILY = Family(
    KIND,
    ("--image", "--size", "--input"),
    "it takes --image, and --size or --input 1..4x3x520x520",
    load,
    names,
)
