"""Delete trtyard's working folders: only marked ones, after the user has agreed."""

import os
import sys
from pathlib import Path

from trtyard.core.errors import UsageError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import environment_of
from trtyard.run.overlay import old_overlays
from trtyard.system.folders import is_own, remove_own
from trtyard.system.terminal import show
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE, ROOT, YARD


def clean(*, old: bool, dry_run: bool, yes: bool) -> None:
    """Show trtyard's folders with their sizes; delete them if the user agrees.

    With ``old``, only the environments that no row of the current lock uses, and models' packages
    on them.
    """
    candidates = old_environments() if old else [YARD, ROOT / ".venv"]
    folders = [folder for folder in candidates if is_own(folder)]
    if not folders:
        show("nothing to clean")
        return
    for folder in folders:
        show(f"{_size_of(folder) / GIGA:8.2f} GB  {folder}")
    if dry_run:
        show("(--dry-run: nothing was deleted)")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("cannot ask before deleting: stdin is not a terminal", "add --yes")
        if input("Delete? [y/N] ").strip().lower() not in ("y", "yes"):
            show("nothing was deleted")
            return
    for folder in folders:
        remove_own(folder)
    show("deleted; the next ./run makes what it needs again. Results in out/ were kept")


def old_environments() -> list[Path]:
    """Return the environments in ``.trtyard`` that no row of the current lock uses.

    The packages that were installed for models on such an environment are old, too.
    """
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    current = {
        environment_of(row, lock.row(row.name), python).folder
        for row in matrix.rows.values()
        for python in row.pythons
    }
    environments = sorted(set(YARD.glob("rows/*/*")) - current)
    return environments + old_overlays({one.name for one in current})


def _size_of(folder: Path) -> int:
    """Return the bytes that ``folder`` takes on disk; hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = (Path(parent) / name).lstat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512  # st_blocks counts 512 bytes (stat(2))
    return total
