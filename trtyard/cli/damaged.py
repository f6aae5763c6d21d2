"""Detect and repair a damaged ``.venv``. Standard library only: nothing else may work."""

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from trtyard.core.errors import BUG_EXIT_CODE, EnvironmentLacksError
from trtyard.system.uv import ROOT, VENV

_AGAIN = "TRTYARD_RESTARTED"  # set in the second attempt: there is no third


def is_of_venv(error: BaseException) -> bool:
    """Return whether the error comes from a missing or broken package of ``.venv``."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "trtyard"
    if isinstance(error, SyntaxError):
        file = Path(error.filename or "")
        # Python names no file if it is full of zeros, as after a crash.
        return VENV in file.parents if file.is_file() else True
    # A truncated module may raise any exception when it is imported.
    return any(
        frame.name == "<module>" and VENV in Path(frame.filename).parents
        for frame in traceback.extract_tb(error.__traceback__)
    )


def restart(error: Exception) -> NoReturn:
    """Start ``run`` again, which makes a new ``.venv`` and runs the same command.

    Args:
        error: the exception at start.

    Raises:
        SystemExit: ``.venv`` was already made again, or it is not the cause (the traceback is
            printed), or it cannot be changed.
    """
    if os.environ.pop(_AGAIN, None) or not is_of_venv(error):
        traceback.print_exception(error)
        raise SystemExit(BUG_EXIT_CODE)
    sys.stderr.write(f"trtyard: .venv is damaged ({type(error).__name__}: {error})\n")
    try:
        (VENV / "stamp").unlink(missing_ok=True)  # without it, run makes .venv again
    except OSError as refused:
        sys.stderr.write(f"  cannot repair it ({refused.strerror}); remove it: rm -rf {VENV}\n")
        raise SystemExit(EnvironmentLacksError.exit_code) from None
    sys.stderr.flush()
    os.environ[_AGAIN] = "1"
    os.execv("/bin/sh", ["/bin/sh", str(ROOT / "run"), *sys.argv[1:]])  # noqa: S606
