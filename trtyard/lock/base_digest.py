"""What a base image's name and digest stand for, as the registry tells it.

A tag or a digest can name an index, which lists one manifest a platform, or such a manifest
itself. The lock holds the digest that is asked for, its kind, and below an index the manifest of
linux/amd64, so that either can be pulled and nobody has to guess which one a digest was.
"""

import hashlib
import json
from dataclasses import dataclass

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.file import LockedBase, Unresolved
from trtyard.matrix.row import UNRESOLVED, BaseImage, DigestKind
from trtyard.system.docker_engine import docker_command
from trtyard.system.processes import CommandError, Word, output_of
from trtyard.system.terminal import say

PLATFORM = ("linux", "amd64")
# OCI image specification; Docker's image manifest version 2, schema 2.
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a registry has under a name."""

    digest: str
    kind: DigestKind
    platform_digest: str  # of PLATFORM below an index; "" for a platform's own manifest


def resolve_base(base: BaseImage, *, mirror: str = "") -> tuple[LockedBase, tuple[Unresolved, ...]]:
    """Return the base as the registry has it, or as the matrix pins it where none answers.

    A pinned digest is never replaced: where the tag has moved on, that is said. ``mirror`` is the
    name under which a company's own registry has the image, tag and all. ``IntegrityError`` where
    the registry gives other bytes than the pin names.
    """
    name = mirror or base.image
    pinned = "" if base.digest == UNRESOLVED else base.digest
    try:
        tagged = inspect(name)
        found = inspect(f"{name.rpartition(':')[0]}@{pinned}") if pinned else tagged
    except EnvironmentLacksError as error:
        return _as_pinned(base, error)
    if pinned and tagged.digest != pinned and tagged.platform_digest != pinned:
        say(
            f"{base.image} has moved on to {tagged.digest}; the matrix pins {pinned}, which is kept"
        )
    locked = LockedBase(
        image=base.image,
        digest=found.digest,
        digest_kind=found.kind,
        platform_digest=found.platform_digest,
    )
    return locked, ()


def inspect(reference: str) -> Manifest:
    """Ask the registry what it has under ``reference``; ``EnvironmentLacksError`` if it is silent.

    ``IntegrityError`` where a digest was asked for and the bytes have another.
    """
    command: list[Word] = [docker_command(), "buildx", "imagetools", "inspect", "--raw", reference]
    try:
        raw = output_of(command)
    except CommandError as error:
        last = (error.tail.strip().splitlines() or ["no word why"])[-1]
        raise EnvironmentLacksError(f"{reference} cannot be asked for: {last}") from None
    return read_manifest(raw.encode(), reference)


def read_manifest(raw: bytes, reference: str) -> Manifest:
    """Tell what a manifest's bytes are; ``IntegrityError`` if they are not what was asked for."""
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    asked = reference.partition("@")[2]
    if asked and asked != digest:
        raise IntegrityError(
            f"{reference}: the registry gave a manifest of {digest}", "do not use that registry"
        )
    try:
        content = json.loads(raw)
        media = content["mediaType"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{reference}: what the registry gave is no manifest") from None
    if media not in _INDEXES:
        return Manifest(digest=digest, kind="platform", platform_digest="")
    for entry in content["manifests"]:
        platform = entry.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == PLATFORM:
            return Manifest(digest=digest, kind="index", platform_digest=str(entry["digest"]))
    raise IntegrityError(f"{reference}: its index has no manifest for {'/'.join(PLATFORM)}")


def _as_pinned(
    base: BaseImage, why: EnvironmentLacksError
) -> tuple[LockedBase, tuple[Unresolved, ...]]:
    locked = LockedBase(
        image=base.image,
        digest=base.digest,
        digest_kind=base.digest_kind,
        platform_digest=base.platform_digest,
    )
    if base.digest != UNRESOLVED:
        say(f"{base.image} is locked as the matrix pins it: {why.message}")
        return locked, ()
    name, _, tag = base.image.rpartition(":")
    reason = "no registry that has it could be asked, and no digest of it is published"
    return locked, (Unresolved(kind="base-image", name=name, version=tag, reason=reason),)
