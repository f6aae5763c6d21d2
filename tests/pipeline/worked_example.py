"""A worked example of the docs, followed literally in a copy of the pipeline."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^`([\w./]+)`\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_of(page, heading):
    """Return the code blocks of a section by the file that each is for."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(_BLOCK.findall(section))


def copy_pipeline(folder):
    """Copy what runs inside a row."""
    (folder / "trtyard").mkdir()
    shutil.copy(ROOT / "trtyard/__init__.py", folder / "trtyard")
    for name in ("core", "ops", "pipeline"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "trtyard" / name, folder / "trtyard" / name, ignore=ignored)


def run_in(folder, script, *arguments):
    """Run a script that imports the copy, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
