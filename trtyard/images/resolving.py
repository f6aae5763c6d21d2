"""What the lock leaves open, resolved on this machine before a build."""

from collections.abc import Sequence

from trtyard.console import say
from trtyard.images.render import render_all
from trtyard.lock.file import Lock, check_row, read_lock
from trtyard.lock.relock import relock
from trtyard.matrix.row import Row
from trtyard.tools import LOCK_FILE


def resolved(rows: Sequence[Row], lock: Lock) -> Lock:
    """Return the lock with what of these rows can be resolved here; it is written and rendered.

    What stays open is refused by the caller. A row that the lock does not fit is its caller's too:
    what was asked for there is another matter than what is open.
    """
    for row in rows:
        locked = lock.row(row.name)
        if not locked.unresolved or locked.matrix_sha256 != row.sha256():
            continue
        check_row(row, locked)
        parts = ", ".join(f"{one.kind} {one.name} {one.version}" for one in locked.unresolved)
        say(f"versions.lock leaves parts of row {row.name} open, trying to resolve them: {parts}")
        relock(upgrade=row.name, newest=False)
        render_all(check=False)
    return read_lock(LOCK_FILE)
