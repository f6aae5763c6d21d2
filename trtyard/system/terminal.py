"""Terminal output: progress on stderr, results on stdout."""

import io
import os
import sys

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}  # by number: 0, 1, 2


def open_streams() -> bool:
    """Open closed standard streams on ``/dev/null``; return whether stdout was open.

    Otherwise the next file to be opened gets the number of a closed stream (``>&-``), and children
    print into that file. Characters that the terminal cannot show are escaped.
    """
    was_open = sys.stdout is not None
    for number, (name, mode) in enumerate(_STREAMS.items()):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # so that children inherit it
            if null != number:
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return was_open


def say(text: str) -> None:
    """Print a progress message on stderr."""
    sys.stderr.write(f"trtyard: {text}\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a result on stdout."""
    sys.stdout.write(f"{text}\n")
