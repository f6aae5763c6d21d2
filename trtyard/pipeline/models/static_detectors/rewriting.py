"""Replace functions of torchvision while a model is exported, and restore them afterwards.

Installed files do not change. A replacement is only for releases whose function it was written for:
it names the hash of the original's source, and is refused if the installed function differs.
"""

import contextlib
import hashlib
import importlib
import inspect
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import torchvision

from trtyard.core.errors import UsageError

_DIGITS = 12  # of a hash


class Rewrite(NamedTuple):
    """A replacement for one function of torchvision."""

    qualified_name: str  # "torchvision.models.detection.transform.resize_boxes"
    sources: Mapping[str, str]  # hash of the original's source (``source_hash``), by release
    function: Callable[..., Any]  # takes the original's arguments


class _Place(NamedTuple):
    """Where a function is an attribute."""

    owner: Any  # a module or a class
    name: str

    @property
    def value(self) -> Any:
        return vars(self.owner)[self.name]


def torchvision_release() -> str:
    """Return the first two numbers of torchvision's version: "0.28"."""
    return ".".join(torchvision.__version__.split("+")[0].split(".")[:2])


def source_hash(qualified_name: str) -> str:
    """Return the hash of an installed function's source."""
    return _hash_of(_place_of(qualified_name).value)


def refuse_unknown(rewrites: Sequence[Rewrite]) -> None:
    """Raise an error if a replacement is not for the installed torchvision.

    Raises:
        UsageError: its release is unknown, or a function is missing or has another source.
    """
    release = torchvision_release()
    for each in rewrites:
        if release not in each.sources:
            raise UsageError(
                f"{each.qualified_name} has no replacement for torchvision {release}; there is one "
                f"for {', '.join(each.sources)}",
                "--detections dynamic exports torchvision's own functions",
            )
        try:
            found = source_hash(each.qualified_name)
        except (ImportError, KeyError, AttributeError, OSError, TypeError) as error:
            raise _changed(each, f"cannot be read ({error!r})") from error
        if found != each.sources[release]:
            raise _changed(each, "has another source than in the release that was checked")


@contextlib.contextmanager
def rewritten(rewrites: Sequence[Rewrite]) -> Iterator[None]:
    """Replace the functions inside the block, in the whole process.

    ``refuse_unknown`` must have accepted them.
    """
    places = [_place_of(each.qualified_name) for each in rewrites]
    originals = [place.value for place in places]
    try:
        for place, each in zip(places, rewrites):
            setattr(place.owner, place.name, each.function)
        yield
    finally:
        for place, original in zip(places, originals):
            setattr(place.owner, place.name, original)


def _changed(rewrite: Rewrite, what: str) -> UsageError:
    return UsageError(
        f"torchvision {torchvision.__version__}: {rewrite.qualified_name} {what}, so trtyard "
        "cannot replace it",
        "install torchvision's published wheel, or use --detections dynamic",
    )


def _place_of(qualified_name: str) -> _Place:
    """Return the module or class that has the function.

    Raises:
        ImportError, AttributeError: there is none.
    """
    parts = qualified_name.split(".")
    owner: Any = importlib.import_module(parts[0])
    for depth, name in enumerate(parts[1:-1], 2):
        if not hasattr(owner, name):
            importlib.import_module(".".join(parts[:depth]))
        owner = getattr(owner, name)
    return _Place(owner, parts[-1])


def _hash_of(function: Any) -> str:
    source = inspect.getsource(function).encode("utf-8")
    return hashlib.sha256(source).hexdigest()[:_DIGITS]
