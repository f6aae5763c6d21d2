"""Work folders of trtyard: marked as its own, locked while they change.

The mark is a CACHEDIR.TAG (bford.info/cachedir), so backup programs skip the folders too. Nothing
without the mark is ever deleted.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.files import PARTIAL_PREFIX, write_text
from trtyard.system.terminal import say

TAG_NAME = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"  # fixed by the specification
_TAG = f"{_SIGNATURE}\n# This folder was made by trtyard, and ./run clean may delete it.\n"


def make_own(folder: Path) -> None:
    """Make ``folder`` and mark it; ``EnvironmentLacksError`` if trtyard did not make it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_own(folder):
            return
        # Check again under the lock: another run may be marking the folder right now.
        with held_folder(folder, waiting=f"waiting for another run that uses {folder}"):
            if is_own(folder):
                return
            if _holds_more_than_a_mark(folder):
                raise EnvironmentLacksError(
                    f"{folder} was not made by trtyard", f"move it away: mv {folder} {folder}.old"
                )
            write_text(folder / TAG_NAME, _TAG)
    except OSError as error:
        raise EnvironmentLacksError(
            f"cannot make {folder}: {error.strerror}",
            "use a folder that you can write to, such as a checkout of your own",
        ) from None


def _holds_more_than_a_mark(folder: Path) -> bool:
    """Tell whether ``folder`` holds anything but an unfinished mark of a killed run."""
    return any(
        not (entry.name.startswith(PARTIAL_PREFIX) and entry.name.endswith(TAG_NAME))
        for entry in folder.iterdir()
    )


def is_own(folder: Path) -> bool:
    """Tell whether ``folder`` carries trtyard's mark."""
    tag = folder / TAG_NAME
    return not folder.is_symlink() and tag.is_file() and tag.read_text(encoding="utf-8") == _TAG


def empty_own(folder: Path) -> None:
    """Delete everything in ``folder`` but the mark, which it must have."""
    if not is_own(folder):
        raise EnvironmentLacksError(f"{folder} was not made by trtyard and is left alone")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != TAG_NAME:
            entry.unlink()


def remove_own(folder: Path) -> None:
    """Delete ``folder`` and everything in it, the mark last; the folder must have the mark."""
    empty_own(folder)
    (folder / TAG_NAME).unlink()
    folder.rmdir()


@contextlib.contextmanager
def emptied_on_failure(folder: Path) -> Iterator[None]:
    """Empty ``folder`` if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        empty_own(folder)
        raise


@contextlib.contextmanager
def held_folder(folder: Path, *, waiting: str | None) -> Iterator[int]:
    """Lock ``folder`` against other runs; yield the descriptor that holds the lock.

    The lock is on the folder itself: it leaves no file behind, and a killed process releases it.
    A child that inherits the descriptor keeps the lock. If another run holds the lock, print
    ``waiting`` and wait; if ``waiting`` is None, raise ``BlockingIOError``.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            say(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
