"""Keep ``sys.stdout`` and ``sys.stderr`` usable, also if the model's code changes them."""

import contextlib
import io
import os
import sys
from typing import Any, Dict, Iterator, Tuple

_kept: Dict[str, Tuple[Any, int]] = {}  # stream and a copy of its descriptor, by name


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """Let ``restore_streams`` restore the present streams inside the block and at its end."""
    for number, name in enumerate(("stdout", "stderr"), start=1):
        _kept[name] = (getattr(sys, name), os.dup(number))
    try:
        yield
    finally:
        restore_streams()
        _kept.clear()  # the descriptors stay open: a stream may use them


def restore_streams() -> None:
    """Replace streams that the model's code has closed, replaced or set to None."""
    for number, (name, (stream, descriptor)) in enumerate(list(_kept.items()), start=1):
        if not _is_open(number):
            os.dup2(descriptor, number)  # otherwise the next file that is opened gets the number
        if not _works(stream):
            # Not on descriptor 1 or 2: it may belong to another file by now.
            stream = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)
            _kept[name] = (stream, descriptor)
        setattr(sys, name, stream)


def _works(stream: Any) -> bool:
    if stream.closed:
        return False
    try:
        return _is_open(stream.fileno())
    except io.UnsupportedOperation:  # it has no descriptor
        return True


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
