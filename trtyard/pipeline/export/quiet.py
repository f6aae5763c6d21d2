"""Keep what a library prints away from the terminal, down to the file descriptors."""

import contextlib
import os
import sys
import tempfile
from typing import Iterator


@contextlib.contextmanager
def output_kept_away() -> Iterator[None]:
    """Send this process's stdout and stderr to a temporary file while the block lasts.

    The exporters print graphs of thousands of lines when they fail, some of it from C++. What they
    have to say is in their exceptions.
    """
    _flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        _flush()
        for descriptor, copy in zip((1, 2), saved):
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The model's code may have closed it, or set it to None.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
