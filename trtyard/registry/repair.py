"""Read an image back from a registry and replace damaged blobs.

A registry compares a blob with its digest when it is uploaded and never again: if the bytes change
on its disk, every later push reports the blob as "already exists". Many registries do not replace
such a blob when it is uploaded again. Then the image gets different bytes with the same content: a
compressed layer with an empty frame at its end, a configuration or a manifest with a line break.
The layers unpack to the same files, so the image is the same; only the manifest's digest changes.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.files import sha256_of
from trtyard.registry.repository import IMAGES, Repository
from trtyard.registry.saved import saved_blobs
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA

if TYPE_CHECKING:
    from docker import DockerClient
    from requests import Response

_PIECE = 1 << 20
# Each attempt uploads different bytes, in case the previous blob is damaged in the registry too.
_ATTEMPTS = 4
_ZSTD_EMPTY_FRAME = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"  # RFC 8878, 3.1.2: a skippable frame
_GZIP_EMPTY_MEMBER = gzip.compress(b"", mtime=0)

Descriptor = dict[str, Any]  # of the OCI image specification: mediaType, digest, size


@dataclass(frozen=True, kw_only=True)
class Verified:
    """An image in a registry after it was read back."""

    digest: str  # of its manifest, after repairs
    blobs: int
    size: int  # bytes that were read
    replaced: tuple[str, ...]  # digests of the damaged blobs


def verified(client: "DockerClient", local: str, remote: str) -> Verified:
    """Read back the image ``remote``, pushed from ``local``, and replace damaged blobs.

    Raises ``EnvironmentLacksError`` if the image cannot be read, ``IntegrityError`` if a damaged
    blob cannot be replaced.
    """
    from requests import RequestException

    repository, tag = Repository.of(remote, retries=2), remote.rpartition(":")[2]
    try:
        return _verified(client, local, repository, tag)
    except RequestException as error:
        host = remote.partition("/")[0]
        raise EnvironmentLacksError(f"cannot read {remote} from {host}: {error}") from None


def problem_of(repository: Repository, digest: str) -> str | None:
    """Return what is wrong with a blob in the registry, or None if it matches its digest."""
    answer = _read(repository, f"blobs/{digest}", stream=True)
    if answer is None:
        return "the registry cannot read it"
    with answer:
        if not answer.ok:
            return f"the registry answers {answer.status_code}"
        found, size = hashlib.sha256(), 0
        for piece in answer.iter_content(_PIECE):
            found.update(piece)
            size += len(piece)
    if f"sha256:{found.hexdigest()}" == digest:
        return None
    return f"its {size} bytes have sha256 {found.hexdigest()}"


def upload(repository: Repository, digest: str, content: IO[bytes] | bytes) -> None:
    """Upload a blob in one piece."""
    place = repository.done("POST", "blobs/uploads/").headers["Location"]
    kind = {"Content-Type": "application/octet-stream"}
    repository.done("PUT", place, params={"digest": digest}, data=content, headers=kind)


def _verified(client: "DockerClient", local: str, repository: Repository, tag: str) -> Verified:
    manifest = _manifest(repository, tag)
    replaced: list[str] = []
    if manifest is None:
        manifest = _own_manifest(client, local)
        if manifest is None:
            raise _irreparable("the image's manifest")
        replaced.append(f"manifest {manifest.digest}")
    blobs = manifest.blobs()
    size = sum(int(one["size"]) for one in blobs)
    say(f"reading {len(blobs)} blobs back, {size / GIGA:.2f} GB")
    damaged = {}
    for one in blobs:
        problem = problem_of(repository, one["digest"])
        if problem is not None:
            say(f"{one['digest']} is damaged in the registry: {problem}")
            damaged[one["digest"]] = one
    if damaged:
        with _files(client, local, manifest, list(damaged)) as files:
            now = {
                digest: _replaced(repository, one, files[digest]) for digest, one in damaged.items()
            }
        manifest = manifest.with_blobs(now)
        replaced += damaged
    if replaced:
        manifest = _put(repository, tag, manifest)
        say(f"replaced in the registry: {', '.join(replaced)}")
    return Verified(digest=manifest.digest, blobs=len(blobs), size=size, replaced=tuple(replaced))


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    content: bytes
    kind: str

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def value(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.content))

    def config(self) -> str:
        return str(self.value["config"]["digest"])

    def layers(self) -> list[str]:
        return [str(one["digest"]) for one in self.value["layers"]]

    def blobs(self) -> list[Descriptor]:
        """Return the configuration and the layers, each once."""
        listed = [self.value["config"], *self.value["layers"]]
        return list({one["digest"]: one for one in listed}.values())

    def with_blobs(self, now: Mapping[str, Descriptor]) -> "_Manifest":
        """Return the manifest with the descriptors of ``now`` replaced; its keys are digests."""
        value = self.value
        value["config"] = now.get(value["config"]["digest"], value["config"])
        value["layers"] = [now.get(one["digest"], one) for one in value["layers"]]
        if value == self.value:
            return self
        return _Manifest(content=json.dumps(value, indent=2).encode(), kind=self.kind)


def _manifest(repository: Repository, reference: str) -> _Manifest | None:
    """Return an image's manifest, or None if the registry cannot read it or it is damaged."""
    answer = _read(repository, f"manifests/{reference}", headers={"Accept": IMAGES})
    if answer is None:
        return None
    named = answer.headers.get("Docker-Content-Digest", "")
    kind = answer.headers.get("Content-Type", "")
    if not answer.ok:
        return None
    found = _Manifest(content=answer.content, kind=kind)
    if named not in ("", found.digest):
        say(f"{named} is damaged in the registry: it has sha256 {found.digest[7:]}")
        return None
    if "layers" not in found.value:
        raise IntegrityError(
            f"{reference} is an index of several images; ./run push makes single images only"
        )
    return found


def _read(repository: Repository, path: str, **options: Any) -> "Response | None":
    """Return the registry's response, or None if it answers every attempt with status 500."""
    from requests.exceptions import RetryError

    try:
        return repository.ask("GET", path, **options)
    except RetryError as error:
        if "500" not in str(error):  # 429 or 503: the registry is busy
            raise
        return None


def _put(repository: Repository, tag: str, manifest: _Manifest) -> _Manifest:
    for _ in range(_ATTEMPTS):
        headers = {"Content-Type": manifest.kind}
        repository.done("PUT", f"manifests/{tag}", data=manifest.content, headers=headers)
        there = _manifest(repository, tag)
        if there is not None and there.digest == manifest.digest:
            return manifest
        manifest = _Manifest(content=manifest.content + b"\n", kind=manifest.kind)
    raise _irreparable(manifest.digest)


def _replaced(repository: Repository, one: Descriptor, file: Path) -> Descriptor:
    """Upload a blob until the registry stores it intact; return its descriptor.

    The descriptor changes if different bytes are needed.
    """
    kind = str(one["mediaType"])
    for attempt in range(_ATTEMPTS):
        if attempt or f"sha256:{sha256_of(file)}" != one["digest"]:
            kind = _changed(file, kind)
        now = {
            **one,
            "mediaType": kind,
            "digest": f"sha256:{sha256_of(file)}",
            "size": file.stat().st_size,
        }
        with file.open("rb") as content:
            upload(repository, now["digest"], content)
        if problem_of(repository, now["digest"]) is None:
            return now
    raise _irreparable(one["digest"])


def _irreparable(digest: str) -> IntegrityError:
    return IntegrityError(
        f"{digest} is damaged in the registry and cannot be replaced",
        "ask the registry's administrator to delete it from disk, then run the same command again",
    )


def _changed(file: Path, kind: str) -> str:
    """Change the file's bytes but not its content; return its new media type."""
    if kind.endswith("zstd"):
        _append(file, _ZSTD_EMPTY_FRAME)
    elif kind.endswith("gzip"):
        with file.open("rb") as stream:
            packed = stream.read(2) == _GZIP_EMPTY_MEMBER[:2]
        if packed:
            _append(file, _GZIP_EMPTY_MEMBER)
        else:  # an image store that keeps layers uncompressed
            _compress(file)
    elif kind.endswith("tar"):
        _compress(file)
        return f"{kind}+gzip" if kind.startswith("application/vnd.oci") else f"{kind}.gzip"
    else:
        _append(file, b"\n")
    return kind


def _append(file: Path, content: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(content)


def _compress(file: Path) -> None:
    plain = file.with_name(f"{file.name}.tar")
    file.rename(plain)
    with plain.open("rb") as source, gzip.GzipFile(file, "wb", mtime=0) as target:
        shutil.copyfileobj(source, target, _PIECE)
    plain.unlink()


def _own_manifest(client: "DockerClient", local: str) -> _Manifest | None:
    """Return the manifest of a local image, or None if the image store keeps no manifests."""
    described = client.images.get(local).attrs.get("Descriptor") or {}
    digest = str(described.get("digest", ""))
    with saved_blobs(client, local, [digest] if digest else []) as files:
        if digest not in files:
            return None
        return _Manifest(content=files[digest].read_bytes(), kind=str(described["mediaType"]))


@contextmanager
def _files(
    client: "DockerClient", local: str, manifest: _Manifest, digests: Sequence[str]
) -> Iterator[Mapping[str, Path]]:
    """Yield a file for each of ``digests``, from the local image; a layer may be a plain tar.

    The blobs are matched by position: after an earlier repair, the registry's manifest names blobs
    that the engine does not have.
    """
    own, image = _own_manifest(client, local), client.images.get(local)
    sources = dict(zip(manifest.layers(), image.attrs["RootFS"]["Layers"], strict=True))
    sources[manifest.config()] = str(image.id)
    if own is not None:
        sources = dict(zip(manifest.layers(), own.layers(), strict=True))
        sources[manifest.config()] = own.config()
    with saved_blobs(client, local, [sources[one] for one in digests]) as files:
        for one in digests:
            if sources[one] not in files:
                raise _irreparable(one)
        yield {one: files[sources[one]] for one in digests}
