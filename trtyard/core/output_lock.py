"""The lock of a conversion on its output folder, held by the process that writes into it.

A command on the host holds the folder too (``trtyard.system.folders.locked``). It can be killed
while the process that it started, for example in a container, goes on. This lock is that process's
own. It is a shared record lock on the folder (fcntl(2), "Open file description locks"), so the
kernel sees it under every name and mount of the folder, from inside a container too, and lets go
of it when the process ends. It stands beside the command's flock(2) and does not conflict with it.
"""

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Iterator, List

from trtyard.core.errors import EnvironmentLacksError

# Linux's numbers: the module has names for them since Python 3.9.
_OFD_GETLK, _OFD_SETLK = 36, 37
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid
_held: List[int] = []


def is_held(folder: Path) -> bool:
    """Return whether another process holds ``folder``."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _is_held_by_another(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made where it is missing, and removed if it stays empty then.

    A file system that has no such locks on folders is written into without one.

    Raises:
        EnvironmentLacksError: another process holds it.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    _held.append(descriptor)
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_RDLCK))
        # Shared locks do not exclude each other, and a folder takes no other kind: so it is asked
        # for afterwards. Of two that come at once both may be refused, and never none.
        if _is_held_by_another(descriptor):
            raise EnvironmentLacksError(
                f"another conversion is writing into {folder}",
                "wait for it, or give another --out",
            )
        yield
    finally:
        # A process that the model's code has forked may live on with the descriptor.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_UNLCK))
        _held.remove(descriptor)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # the first that is not empty
            for one in made:
                one.rmdir()


def _is_held_by_another(descriptor: int) -> bool:
    try:
        answer = fcntl.fcntl(descriptor, _OFD_GETLK, _lock(fcntl.F_WRLCK))
    except OSError:
        return False
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _lock(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 1, 0)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    del _held[:]


if hasattr(os, "register_at_fork"):  # since Python 3.7
    os.register_at_fork(after_in_child=_close_in_child)
