"""The lock on an output folder of the process that writes into it.

The command on the host locks the folder too (``trtyard.system.folders.held_folder``), but it can be
killed while its conversion goes on, for example in a container. So the conversion has its own lock:
a shared record lock on the folder (fcntl(2), "Open file description locks"). It applies to every
path and mount of the folder, also from inside a container, and ends with the process. It does not
conflict with the command's flock(2).
"""

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Iterator, List

from trtyard.core.errors import EnvironmentLacksError

# Values on Linux; fcntl has constants for them since Python 3.9.
_OFD_GETLK, _OFD_SETLK = 36, 37
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid
_held: List[int] = []


def is_held(folder: Path) -> bool:
    """Return whether another process has locked ``folder``."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _is_held_by_another(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock ``folder`` during the block; make it if missing, and remove it again if it stays empty.

    On a file system without such locks, nothing is locked.

    Raises:
        EnvironmentLacksError: another process has locked it.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    _held.append(descriptor)
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_RDLCK))
        # A folder supports shared locks only, which do not exclude each other: so check for others
        # after locking. Of two processes at the same time, one or both are refused.
        if _is_held_by_another(descriptor):
            raise EnvironmentLacksError(
                f"another conversion is writing into {folder}",
                "wait for it, or use another --out",
            )
        yield
    finally:
        # Unlock explicitly: a process forked by the model's code may still have the descriptor.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _OFD_SETLK, _lock(fcntl.F_UNLCK))
        _held.remove(descriptor)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # stops at the first folder that is not empty
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
