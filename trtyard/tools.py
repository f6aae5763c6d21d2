"""The host tools installed beside this interpreter by ``run``."""

import shutil
import sys
from pathlib import Path

from trtyard.pipeline.errors import EnvironmentLacksError

ROOT = Path(__file__).resolve().parent.parent
MATRIX_FILE = ROOT / "versions.toml"
LOCK_FILE = ROOT / "versions.lock"


def uv() -> Path:
    """Return the pinned uv of ``.venv``; without one (another entry than ``run``) that on PATH."""
    own = Path(sys.executable).parent / "uv"
    if own.is_file():
        return own
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentLacksError("uv is missing", "call trtyard through ./run, which brings it")
    return Path(found)
