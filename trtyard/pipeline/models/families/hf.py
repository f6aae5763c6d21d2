"""Models of the package transformers from a local folder: ``hf:FOLDER``."""

from typing import TYPE_CHECKING, Sequence

from trtyard.core.short_forms import HF
from trtyard.pipeline.models.families.own import KIND
from trtyard.pipeline.models.family import Family, Options

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model


def names() -> Sequence[str]:
    """Return no names: they are recognized by the form."""
    return ()


def load(spec: str, options: Options) -> "Model":
    """Return the model; see ``load_hf``."""
    from trtyard.pipeline.models.hf import load_hf

    return load_hf(spec, options.choice, options.input_shape)


FAMILY = Family(KIND, ("--input",), "a model of transformers takes --input", load, names, form=HF)
