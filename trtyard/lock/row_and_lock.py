"""Reads a row of versions.toml and its entry in versions.lock."""

from trtyard.lock.file import LockedRow, check_row, read_lock
from trtyard.lock.patches import check_patches
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


def row_and_lock(name: str) -> tuple[Row, LockedRow]:
    """Return the row with this name or alias and its lock.

    Raises ``IntegrityError`` if the lock does not match the row or its patches.
    """
    row = read_matrix(MATRIX_FILE).row(name)
    lock = read_lock(LOCK_FILE).row(row.name)
    check_row(row, lock)
    check_patches(row, lock)
    return row, lock
