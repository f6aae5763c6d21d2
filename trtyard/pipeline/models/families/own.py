"""A user's own model: inputs and outputs are just tensors."""

from typing import TYPE_CHECKING, Sequence

from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.parity.kind import ANY, Kind
from trtyard.pipeline.parity.tolerance import VALUES

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model

KIND = Kind("tensor", {ANY: VALUES}, may_hold_float16=True)


def names() -> Sequence[str]:
    """Return no names: own models are recognized by their colon."""
    return ()


def load(spec: str, options: Options) -> "Model":
    """Return the model; see ``load_own``."""
    from trtyard.pipeline.models.own import load_own

    return load_own(spec, options.choice, options.input_shape)


FAMILY = Family(KIND, ("--input",), "a model of your own takes --input", load, names, is_own=True)
