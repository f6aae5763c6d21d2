"""``python -m trtyard.pipeline``: what runs inside a row's environment."""

import os
import sys

if __name__ == "__main__":
    # Before anything else is imported. With -m, Python puts the current folder first, and before
    # 3.11 no option changes that: every library would import a user's statistics.py. The folder of
    # trtyard's code goes too: trtyard is already imported, and its files must not hide the user's.
    _code = os.path.abspath(os.path.join(__file__, "..", "..", ".."))  # noqa: PTH100, PTH118
    _first = (_code, os.getcwd())  # noqa: PTH109
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) not in _first]  # noqa: PTH100

import signal

from trtyard.core.errors import INTERRUPTED_EXIT_CODE
from trtyard.pipeline.cli import main
from trtyard.pipeline.interrupts import interrupt

if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupt)
    exit_code = main(sys.argv[1:])
    if exit_code == INTERRUPTED_EXIT_CODE:
        # An interrupt that came inside exec() of a string, as libraries use it, stays marked as
        # unhandled in CPython even when it was caught: a plain exit would become a death by SIGINT.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
