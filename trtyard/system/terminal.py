"""What trtyard says: progress on stderr, results on stdout."""

import io
import os
import sys

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}  # by number: 0, 1, 2


def open_streams() -> bool:
    """Make all three standard streams usable; tell whether stdout was open.

    A closed one (``>&-``) becomes ``/dev/null``: else the next file that is opened gets its number,
    and what children print goes into that file. What a terminal cannot show is escaped.
    """
    was_open = sys.stdout is not None
    for number, (name, mode) in enumerate(_STREAMS.items()):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # which children inherit
            if null != number:
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return was_open


def say(text: str) -> None:
    """Tell the user what is being done."""
    sys.stderr.write(f"trtyard: {text}\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")
