import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of this working tree's sources in a folder with spaces in its name."""
    folder = tmp_path / "a folder with spaces" / "trtyard"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run([*listed, "--", "."], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if name.startswith(("docs/", "plugins/", "tests/")) or not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod((ROOT / name).stat().st_mode)
    return folder


@pytest.fixture
def tasks():
    """Return a function that runs the task line of a checkout, as ``run`` does at its end."""

    def call(*words, root=ROOT, **options):
        command = [sys.executable, "-I", str(root / "trtyard" / "__main__.py"), *words]
        env = {**os.environ, "COLUMNS": "100", **options.pop("env", {})}
        return subprocess.run(
            command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, **options
        )

    return call
