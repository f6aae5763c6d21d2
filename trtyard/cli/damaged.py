"""What to do where ``.venv`` is damaged. Standard library only, as nothing else may work."""

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from trtyard.core.errors import BUG_EXIT_CODE, EnvironmentLacksError
from trtyard.system.uv import ROOT, VENV

_AGAIN = "TRTYARD_MADE_ANEW"  # set in the second attempt, which must not lead to a third


def is_of_venv(error: BaseException) -> bool:
    """Tell whether a package of ``.venv`` cannot be imported: gone, or with a broken file."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "trtyard"
    if isinstance(error, SyntaxError):
        file = Path(error.filename or "")
        # Of a file of zeros, as a crash leaves it, Python does not say which it is.
        return VENV in file.parents if file.is_file() else True
    # A module that is cut short may fail in any way while it is executed.
    return any(
        frame.name == "<module>" and VENV in Path(frame.filename).parents
        for frame in traceback.extract_tb(error.__traceback__)
    )


def make_anew(error: Exception) -> NoReturn:
    """Let ``run`` make ``.venv`` anew and run the same command; ``error`` is why it cannot start.

    Raises:
        SystemExit: a new ``.venv`` did not help, or this one cannot be removed.
    """
    if os.environ.pop(_AGAIN, None) or not is_of_venv(error):
        traceback.print_exception(error)
        raise SystemExit(BUG_EXIT_CODE)
    sys.stderr.write(f"trtyard: .venv is damaged ({type(error).__name__}: {error})\n")
    try:
        (VENV / "stamp").unlink(missing_ok=True)  # without it run takes .venv for unfinished
    except OSError as refused:
        sys.stderr.write(f"  {refused.strerror}: remove it, rm -rf {VENV}\n")
        raise SystemExit(EnvironmentLacksError.exit_code) from None
    sys.stderr.flush()
    os.environ[_AGAIN] = "1"
    os.execv("/bin/sh", ["/bin/sh", str(ROOT / "run"), *sys.argv[1:]])  # noqa: S606
