"""Read the blobs of a local image from its ``docker save`` archive."""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

_PIECE = 1 << 20


@contextmanager
def saved_blobs(
    client: "DockerClient", image: str, digests: Sequence[str]
) -> Iterator[Mapping[str, Path]]:
    """Yield a temporary file for each of ``digests`` that the image's archive contains.

    The containerd image store has manifests, configurations and layers as they were pulled or
    built; the classic image store has configurations, and layers as plain tars.
    """
    wanted = {f"blobs/{one.replace(':', '/')}": one for one in digests if one}
    found: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="trtyard-saved-") as name:
        pieces = io.BufferedReader(_Pieces(client.images.get(image).save()), _PIECE)
        with tarfile.open(fileobj=pieces, mode="r|", bufsize=_PIECE) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name in wanted else None
                if content is not None:
                    file = Path(name, str(len(found)))
                    with file.open("wb") as target:
                        shutil.copyfileobj(content, target, _PIECE)
                    found[wanted[member.name]] = file
                if len(found) == len(wanted):
                    break
        yield found


class _Pieces(io.RawIOBase):
    """A file that reads from an iterator of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
