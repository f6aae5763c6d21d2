"""Classifiers of the package timm: ``timm:resnet18``."""

from typing import TYPE_CHECKING, Sequence

from trtyard.core.short_forms import TIMM
from trtyard.pipeline.models.families.classifier import KIND
from trtyard.pipeline.models.family import Family, Options

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model


def names() -> Sequence[str]:
    """Return no names: they are recognized by the form."""
    return ()


def load(spec: str, options: Options) -> "Model":
    """Return the classifier; see ``load_timm``."""
    from trtyard.pipeline.models.timm_model import load_timm

    return load_timm(spec, options.choice, options.image, options.size, options.input_shape)


FAMILY = Family(
    KIND,
    ("--image", "--size", "--input"),
    "it takes --image, and --size or --input 1..8x3x224x224",
    load,
    names,
    form=TIMM,
)
