"""A family of models: its names, its options, and how it is loaded and compared."""

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.core.short_forms import short_form
from trtyard.pipeline.parity.kind import Kind

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model
    from trtyard.pipeline.models.weights import Choice


class Options(NamedTuple):
    """The user's options; None means the default."""

    choice: "Choice"  # of weights
    image: Optional[str] = None  # path of a picture
    size: Optional[int] = None
    input_shape: Optional[str] = None
    top_n: Optional[int] = None
    norm_epsilon: Optional[float] = None
    detections: Optional[str] = None  # "padded" or "dynamic"


# The options by the words of the command line. Each family takes some of them.
WORDS = (
    ("--image", "image"),
    ("--size", "size"),
    ("--input", "input_shape"),
    ("--top-n", "top_n"),
    ("--norm-eps", "norm_epsilon"),
    ("--detections", "detections"),
)


class Family(NamedTuple):
    """The object that a family's module registers as FAMILY."""

    kind: Kind
    takes: Tuple[str, ...]  # of WORDS
    hint: str  # shown if the user gives another option
    load: Callable[[str, Options], "Model"]  # from the value of --model and the options
    names: Callable[[], Sequence[str]]  # the names that this row supports
    is_own: bool = False  # the user's own models; their names have a colon
    ending: str = ""  # of the names of the files that are its models
    form: str = ""  # a short form of core/short_forms.py
    other_kinds: Tuple[Kind, ...] = ()  # of some of its models

    def has(self, spec: str) -> bool:
        """Return whether ``spec``, the value of --model, belongs to the family."""
        form = short_form(spec)
        if self.form or form is not None:
            return self.form == form
        if self.ending:
            return spec.lower().endswith(self.ending)
        return ":" in spec if self.is_own else spec in self.names()

    def refuse_unfit(self, spec: str, options: Options) -> None:
        """Raise a UsageError for an option that the family does not take."""
        for word, field in WORDS:
            if word not in self.takes and getattr(options, field) is not None:
                raise not_for(word, spec, self.hint)


def not_for(word: str, what: str, hint: str) -> UsageError:
    """Return the error for an option that the family does not take."""
    return UsageError(f"{word} is not for {what}", hint)
