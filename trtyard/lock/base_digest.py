"""Resolves a base image's digest with the registry.

A tag or a digest names an index (one manifest for each platform) or one platform's manifest. The
lock records the digest, its kind, and for an index also the digest of the linux/amd64 manifest, so
both can be pulled.
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
    """A manifest in a registry."""

    digest: str
    kind: DigestKind
    platform_digest: str  # of PLATFORM's manifest in an index; "" for a platform's own manifest


def resolve_base(base: BaseImage, *, mirror: str = "") -> tuple[LockedBase, tuple[Unresolved, ...]]:
    """Return the locked base image from the registry, or the matrix's pin if none answers.

    A pinned digest is never replaced; if the tag now has another digest, a notice is printed.
    ``mirror`` is the image's name, with its tag, in a company's own registry. Raises
    ``IntegrityError`` if the registry's manifest does not have the pinned digest.
    """
    name = mirror or base.image
    pinned = "" if base.digest == UNRESOLVED else base.digest
    try:
        tagged = inspect(name)
        found = inspect(f"{name.rpartition(':')[0]}@{pinned}") if pinned else tagged
    except EnvironmentLacksError as error:
        return _as_pinned(base, error)
    if pinned and tagged.digest != pinned and tagged.platform_digest != pinned:
        say(f"{base.image} is now {tagged.digest}; versions.toml pins {pinned}, which stays locked")
    locked = LockedBase(
        image=base.image,
        digest=found.digest,
        digest_kind=found.kind,
        platform_digest=found.platform_digest,
    )
    return locked, ()


def inspect(reference: str) -> Manifest:
    """Return the registry's manifest for ``reference``.

    Raises ``EnvironmentLacksError`` if the registry does not answer, and ``IntegrityError`` if the
    manifest does not have the digest in ``reference``.
    """
    command: list[Word] = [docker_command(), "buildx", "imagetools", "inspect", "--raw", reference]
    try:
        raw = output_of(command)
    except CommandError as error:
        last = (error.tail.strip().splitlines() or ["no reason given"])[-1]
        raise EnvironmentLacksError(f"{reference} cannot be inspected: {last}") from None
    return read_manifest(raw.encode(), reference)


def read_manifest(raw: bytes, reference: str) -> Manifest:
    """Return the manifest in ``raw``; ``IntegrityError`` if its digest is not as requested."""
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    asked = reference.partition("@")[2]
    if asked and asked != digest:
        raise IntegrityError(
            f"{reference}: the registry returned a manifest with digest {digest}",
            "do not use that registry",
        )
    try:
        content = json.loads(raw)
        media = content["mediaType"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{reference}: the registry's answer is not a manifest") from None
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
        say(f"{base.image} is locked with the digest from versions.toml: {why.message}")
        return locked, ()
    name, _, tag = base.image.rpartition(":")
    reason = "its registry cannot be reached, and versions.toml has no digest"
    return locked, (Unresolved(kind="base-image", name=name, version=tag, reason=reason),)
