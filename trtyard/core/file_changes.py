"""Change several files together: all of them or none."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.files import PARTIAL_PREFIX


class Change(NamedTuple):
    """A file's content before and after; None means that the file does not exist."""

    file: Path
    old: Optional[bytes]
    new: Optional[bytes]


def change_together(changes: Sequence[Change]) -> None:
    """Write every change; after a failure restore the files that were already changed.

    Old and new contents are first written to temporary files in the same folder, so that neither
    the change nor the restore can run out of disk. Each changed file gets a new inode: a hard link
    to it (in uv's cache) keeps the old content.
    """
    with contextlib.ExitStack() as stack:
        staged = [
            (change.file, _stage(stack, change.file, change.old, change.new)) for change in changes
        ]
        begun = []
        try:
            for file, (old, new) in staged:
                begun.append((file, old))
                _put(new, file)
        except BaseException:
            for file, old in begun:
                _put(old, file)
            raise


def _stage(
    stack: contextlib.ExitStack, file: Path, old: Optional[bytes], new: Optional[bytes]
) -> Tuple[Optional[Path], Optional[Path]]:
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    both = [
        None if content is None else stack.enter_context(_beside(file, content, mode))
        for content in (old, new)
    ]
    return both[0], both[1]


@contextlib.contextmanager
def _beside(file: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Yield a temporary file with that content in the same folder; delete it at the end."""
    handle, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, dir=str(file.parent))
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        partial.chmod(mode)
        yield partial
    finally:
        _remove(partial)


def _put(staged: Optional[Path], file: Path) -> None:
    if file.suffix == ".py":  # Python never compares some .pyc files with their source
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            _remove(compiled)
    if staged is None:
        _remove(file)
    else:
        staged.replace(file)


def _remove(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
