"""Resolves the lock and renders ``images/`` from it."""

from collections.abc import Sequence

from trtyard.lock.file import Lock, read_lock, refuse_unresolved
from trtyard.lock.relock import ALL, relock
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import render_all
from trtyard.system.terminal import say
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


def lock_and_render(*, upgrade: str = "") -> None:
    """Resolve the changed rows, or ``upgrade`` (a row, or ``all``), and render ``images/``.

    Raises ``EnvironmentLacksError`` if ``upgrade`` is a row that still has unresolved entries.
    """
    relock(upgrade=upgrade)
    render_all(check=False)
    if upgrade not in ("", ALL):
        refuse_unresolved(read_lock(LOCK_FILE).row(read_matrix(MATRIX_FILE).row(upgrade).name))


def resolved(rows: Sequence[Row], lock: Lock) -> Lock:
    """Resolve these rows' unresolved entries as far as possible; return the new lock.

    The lock is written and ``images/`` is rendered. The caller rejects entries that stay
    unresolved. A row that changed in versions.toml is skipped: ``./run lock`` resolves it.
    """
    for row in rows:
        locked = lock.row(row.name)
        if not locked.unresolved or locked.matrix_sha256 != row.sha256():
            continue
        parts = ", ".join(f"{one.kind} {one.name} {one.version}" for one in locked.unresolved)
        say(f"row {row.name} has unresolved entries in versions.lock; resolving {parts}")
        relock(upgrade=row.name, newest=False)
        render_all(check=False)
    return read_lock(LOCK_FILE)
