"""Find the line of the user's code in an exception's traceback."""

import sysconfig
import traceback
from pathlib import Path
from typing import Optional

import torch

_PIPELINE = Path(__file__).resolve().parents[1]
_TORCH = Path(torch.__file__).resolve().parent
_STANDARD = Path(sysconfig.get_paths()["stdlib"]).resolve()
_PACKAGES = ("site-packages", "dist-packages")


def users_frame(error: BaseException) -> Optional[traceback.FrameSummary]:
    """Return the innermost frame of the user's code, or else of an installed package.

    None if all frames are torch's, Python's or trtyard's own.
    """
    frames = [
        frame
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if _may_be_the_users(Path(frame.filename))
    ]
    own = (frame for frame in frames if not _is_installed(Path(frame.filename)))
    return next(own, frames[0] if frames else None)


def _may_be_the_users(file: Path) -> bool:
    if not file.is_file():
        return False
    folders = file.resolve().parents
    in_standard = _STANDARD in folders and not _is_installed(file)
    return not in_standard and _PIPELINE not in folders and _TORCH not in folders


def _is_installed(file: Path) -> bool:
    return any(part in _PACKAGES for part in file.parts)
