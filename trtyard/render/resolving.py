"""Locking as a person does it: the lock, and what is rendered from it."""

from collections.abc import Sequence

from trtyard.lock.file import Lock, read_lock, refuse_unresolved
from trtyard.lock.relock import ALL, relock
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import render_all
from trtyard.system.terminal import say
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


def lock_and_render(*, upgrade: str = "") -> None:
    """Resolve what changed, or ``upgrade`` (a row, or ``all``), and render it.

    ``EnvironmentLacksError`` where a part of the row that was named stays unresolved.
    """
    relock(upgrade=upgrade)
    render_all(check=False)
    if upgrade not in ("", ALL):
        refuse_unresolved(read_lock(LOCK_FILE).row(read_matrix(MATRIX_FILE).row(upgrade).name))


def resolved(rows: Sequence[Row], lock: Lock) -> Lock:
    """Return the lock with what of these rows can be resolved here; it is written and rendered.

    What stays open is refused by the caller. A row that the lock does not fit is left alone: what
    changed in versions.toml is for ``./run lock``.
    """
    for row in rows:
        locked = lock.row(row.name)
        if not locked.unresolved or locked.matrix_sha256 != row.sha256():
            continue
        parts = ", ".join(f"{one.kind} {one.name} {one.version}" for one in locked.unresolved)
        say(f"versions.lock leaves parts of row {row.name} open; trying to resolve {parts}")
        relock(upgrade=row.name, newest=False)
        render_all(check=False)
    return read_lock(LOCK_FILE)
