"""Write files completely or not at all."""

import contextlib
import errno
import hashlib
import json
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterator, Sequence

PARTIAL_PREFIX = ".partial-"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; rename it to ``path`` if the block succeeds.

    After an exception, the temporary file is removed and ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(4)}-{path.name}")
    # touch sets the mode from the umask, which cannot be read without changing it in all threads.
    try:
        partial.touch(exist_ok=False)
    except FileNotFoundError:  # the folder exists but takes no files, such as /proc
        raise PermissionError(errno.EACCES, "cannot create files there", str(path)) from None
    try:
        mode = partial.stat().st_mode & 0o777
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


@contextlib.contextmanager
def published_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder for new files; move them into ``folder`` if the block succeeds.

    ``names`` lists all files that a run may write, also in subfolders. Those that this run did
    not write are removed from ``folder``, so files of different runs never mix. After an exception,
    the new files are removed and ``folder`` is unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=str(folder)))
    try:
        yield staging
        for name in names:
            if (staging / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                (staging / name).replace(folder / name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    (folder / name).unlink()
    finally:
        shutil.rmtree(str(staging), ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, completely or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, completely or not at all."""
    with written_whole(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the file's sha256 as 64 hex digits, reading it in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
