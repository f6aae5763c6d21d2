import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _pythons(row):
    named = os.environ.get("TRTYARD_ENVIRONMENTS", "")
    if named:
        yield Path(named) / row / "bin" / "python"
    yield from ROOT.glob(f".trtyard/rows/{row}/*/venv/bin/python")


@pytest.fixture
def old_python():
    """Return the interpreter of row 7.0, whose torch is 1.4; skip where there is none."""
    for python in _pythons("7.0"):
        if python.exists():
            return python
    pytest.skip(
        "no environment of row 7.0: TRTYARD_ENVIRONMENTS names no folder with 7.0/bin/python"
    )
