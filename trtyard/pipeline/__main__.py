"""``python -m trtyard.pipeline``: what runs inside a row's environment."""

import os
import signal
import sys

from trtyard.pipeline.cli import main
from trtyard.pipeline.errors import INTERRUPTED_EXIT_CODE


def _interrupt(_number: int, _frame: object) -> None:
    """Interrupt, once: another Ctrl-C would come into the tidying up after the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupt)
    exit_code = main(sys.argv[1:])
    if exit_code == INTERRUPTED_EXIT_CODE:
        # An interrupt that came inside exec() of a string, as libraries use it, stays marked as
        # unhandled in CPython even when it was caught: a plain exit would become a death by SIGINT.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
