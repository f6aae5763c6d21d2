"""Push images to a registry, and pull them by digest, through Docker.

Docker compares every blob with its digest. This module also checks the image's labels: they show
whether the image behind a tag is the one that this checkout builds.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, TrtyardError, UsageError
from trtyard.registry.repair import verified
from trtyard.registry.repository import Repository
from trtyard.system.docker_engine import ANSWER_SECONDS
from trtyard.system.processes import CommandError, check
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient

VARIABLE = "TRTYARD_REGISTRY"
# How long to wait before each retry of what may succeed later.
BACKOFF_SECONDS: tuple[float, ...] = (1, 3, 9)

# Docker reads a first component without a dot or colon, except localhost, as a Docker Hub user.
_HOST = r"localhost(:\d+)?|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+"
_FOLDER = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
# Messages of Docker with the containerd and with the classic image store.
_NOT_WHAT_IT_SHOULD_BE = re.compile(
    r"unexpected commit digest|failed size validation|verification failed|digest mismatch"
    r"|does not match (the )?(provided )?digest|not match digest|content digest .* invalid"
)
_LATER = re.compile(r"toomanyrequests|too many requests|status(?: code)?:? 429|service unavailable")
_CUT_SHORT = re.compile(r"short read|unexpected eof|416 requested range")
_REFUSED = re.compile(
    r"unauthorized|authentication required|no basic auth|denied|forbidden|status(?: code)?:? 40[13]"
)
_BROKEN_TAG = re.compile(r"/manifests/\S+ 500 ")
_NOT_THERE = re.compile(r"not found|manifest unknown|name unknown|no such manifest")
# Registries say this now and then when two pushes upload a blob at the same time.
_BLOB_LOST = re.compile(r"blob unknown|blob upload (unknown|invalid)|not match uploaded content")
_UNTAGGED_MEANWHILE = re.compile(r"does not exist locally|no such image|tag does not exist")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry host with an optional prefix, such as ``registry.example.org/team``."""

    prefix: str

    @classmethod
    def configured(cls, option: str = "") -> "Registry | None":
        """Return the registry from the option, else from the environment variable, else None."""
        text = option or os.environ.get(VARIABLE, "")
        source = "--registry" if option else VARIABLE
        if not text:
            return None
        # Checked first and not printed: the text may contain a password.
        if "@" in text:
            raise UsageError(
                f"{source} must not contain a user or password",
                "log in with: docker login HOST",
            )
        if "://" in text:
            raise UsageError(f"{source} must be HOST/PREFIX without a scheme, not {text!r}")
        if not re.fullmatch(rf"({_HOST})(/{_FOLDER})*", text):
            raise UsageError(
                f"{source} must be HOST[:PORT][/PREFIX], not {text!r}",
                "for example registry.example.org/team or localhost:5000",
            )
        return cls(prefix=text)

    @classmethod
    def needed(cls, option: str) -> "Registry":
        """Return the configured registry; ``UsageError`` if there is none."""
        registry = cls.configured(option)
        if registry is None:
            raise UsageError("no registry given", f"add --registry HOST/PREFIX, or set {VARIABLE}")
        return registry

    def image(self, row_name: str, key: str) -> str:
        """Return the name of the row's image with that content key."""
        return f"{self.prefix}/{row_name}:{key}"


class NotPublishedError(EnvironmentLacksError):
    """The registry can be reached but does not have the image."""


def push_image(client: "DockerClient", docker: Path, local: str, remote: str) -> str:
    """Push the image ``local`` under the name ``remote``; return its digest in the registry.

    A push writes the tag last, so an interrupted push leaves no tag. Afterwards, or if the registry
    already has the image, the image is read back and damaged blobs are replaced (``repair``).
    """
    with suppress(EnvironmentLacksError):  # not pushed yet, or its manifest is damaged
        there = digest_of(client, remote)
        if is_same(client, local, remote, there):
            say(f"{remote} is already in the registry: {there}")
            return _verified(client, local, remote, there)

    def attempt() -> None:
        # For each attempt: another push that ends removes the tag.
        client.images.get(local).tag(remote)
        check([docker, "push", remote])

    digest = ""
    try:
        with suppress(_BrokenTagError):
            _asking(remote, attempt)
            digest = digest_of(client, remote)
    finally:
        _forget(client, remote)
    if digest and digest not in known_digests(client, local):
        say(f"{remote} was replaced by another push: {digest}")
        return digest
    if digest:
        say(f"pushed {remote}: {digest}")
    return _verified(client, local, remote, digest)


def is_same(client: "DockerClient", local: str, remote: str, digest: str) -> bool:
    """Return whether the registry's image with that digest is ``local``, or a repaired copy."""
    from requests import RequestException

    if digest in known_digests(client, local):
        return True
    try:
        found = Repository.of(remote, retries=0).configuration(digest)
    except (RequestException, ValueError):
        return False
    image = client.images.get(local)
    labels = (found.get("config") or {}).get("Labels") or {}
    layers = (found.get("rootfs") or {}).get("diff_ids") or []
    return bool(layers == image.attrs["RootFS"]["Layers"] and labels == image.labels)


def _verified(client: "DockerClient", local: str, remote: str, digest: str) -> str:
    """Read the image back, replace damaged blobs, and return the resulting digest."""
    try:
        found = verified(client, local, remote)
    except EnvironmentLacksError as error:
        if not digest:
            raise
        say(f"{remote} could not be read back: {error.message}")
        return digest
    if found.digest == digest:
        say(f"verified {found.blobs} blobs of {remote}: {digest}")
    else:
        say(f"verified {found.blobs} blobs of {remote}; its digest is now {found.digest}")
    return found.digest


def pull_image(
    client: "DockerClient", docker: Path, remote: str, local: str, labels: Mapping[str, str]
) -> str:
    """Pull ``remote`` by digest, check its ``labels``, tag it ``local``, and return that name.

    Nothing is downloaded if ``local`` has that digest already.
    """
    known = known_digests(client, local)
    digest = _digest_unread(remote) if known else ""
    if digest not in known:
        digest = digest_of(client, remote)
    if digest in known:
        check_labels(client, local, labels)
        say(f"{local} is up to date: {digest}; nothing was downloaded")
        return local
    by_digest = f"{remote.rpartition(':')[0]}@{digest}"
    was_here = bool(known_digests(client, by_digest))
    _asking(remote, lambda: check([docker, "pull", by_digest]))
    try:
        check_labels(client, by_digest, labels)
        client.images.get(by_digest).tag(local)
    except BaseException:
        if not was_here:
            _forget(client, by_digest)
        raise
    # Keep only one name, so that removing it removes the image. The classic image store records
    # the digest only under this name, so there it stays; it goes with the image.
    if client.images.get(local).id == digest and not was_here:
        _forget(client, by_digest)
    say(f"pulled {local} from {by_digest}")
    return local


def digest_of(client: "DockerClient", remote: str) -> str:
    """Return the digest of a tag; ``NotPublishedError`` if the registry has no such tag."""
    from docker.errors import APIError
    from requests.exceptions import RequestException

    def attempt() -> str:
        waited, client.api.timeout = client.api.timeout, ANSWER_SECONDS
        try:
            found = client.api.inspect_distribution(remote)
        except APIError as error:
            raise explained(remote, str(error.explanation or error)) from None
        except RequestException:
            raise explained(remote, f"no response within {ANSWER_SECONDS} s") from None
        finally:
            client.api.timeout = waited
        return str(found["Descriptor"]["digest"])

    return _asking(remote, attempt)


def _digest_unread(remote: str) -> str:
    """Return the digest of a tag with a HEAD request, or "" if that fails.

    Then ``digest_of`` asks Docker, which may know the registry's certificate or mirror but reads
    the image's manifest and configuration.
    """
    from requests import RequestException

    try:
        return Repository.of(remote, retries=0).digest(remote.rpartition(":")[2])
    except RequestException:
        return ""


def check_labels(client: "DockerClient", image: str, labels: Mapping[str, str]) -> None:
    """Raise ``IntegrityError`` if a label of the image is missing or differs."""
    found = client.images.get(image).labels
    for name, expected in labels.items():
        if found.get(name) != expected:
            raise IntegrityError(
                f"{image} is not the image that this checkout builds: label {name}: expected"
                f" {expected}, found {found.get(name, 'none')}",
                "do not use it; build the image: ./run build",
            )


def explained(remote: str, said: str) -> TrtyardError:
    """Return the error for Docker's output ``said`` about ``remote``."""
    host, text = remote.partition("/")[0], said.lower()
    last = next(
        (line.strip() for line in reversed(said.splitlines()) if line.strip()), "no message"
    )
    if "docker daemon" in text or "error reading from server: eof" in text:
        return EnvironmentLacksError(
            f"lost the connection to Docker: {last}",
            "sudo systemctl restart docker, then run the same command again",
        )
    if _NOT_WHAT_IT_SHOULD_BE.search(text):
        return IntegrityError(
            f"{remote}: a blob from the registry does not match its digest: {last}",
            "do not use it; ./run push on a machine that has the image replaces damaged blobs",
        )
    if "no space left" in text:
        return EnvironmentLacksError(
            f"the disk is full: {last}", "show Docker's disk usage: docker system df"
        )
    if _LATER.search(text):
        return _LaterError(f"{host}: too many requests: {last}", "try again later")
    if _CUT_SHORT.search(text):
        return _LaterError(
            f"{remote}: a blob from the registry is too short: {last}",
            "if it happens again: ./run push on a machine that has the image replaces damaged"
            " blobs",
        )
    if _BLOB_LOST.search(text):
        return _LaterError(
            f"{remote}: the registry does not have a blob of the image: {last}",
            "./run push on a machine that has the image uploads it again",
        )
    if _UNTAGGED_MEANWHILE.search(text):
        return _LaterError(f"{remote} was untagged while it was pushed: {last}")
    if _BROKEN_TAG.search(text):
        return _BrokenTagError(
            f"{remote}: the registry cannot read the manifest: {last}",
            "./run push on a machine that has the image replaces it",
        )
    if _REFUSED.search(text):
        return EnvironmentLacksError(f"{host} refused access: {last}", f"docker login {host}")
    if _NOT_THERE.search(text):
        return NotPublishedError(
            f"{remote} not found in the registry",
            "build it: ./run build; then publish it: ./run push",
        )
    return EnvironmentLacksError(
        f"cannot reach {host}: {last}",
        "check the network and the registry's name, or build without a registry: ./run build",
    )


class _BrokenTagError(EnvironmentLacksError):
    """The registry can be reached, but the manifest under the tag is damaged."""


class _LaterError(EnvironmentLacksError):
    """A retry may succeed."""


def _asking(remote: str, attempt: Callable[[], _T]) -> _T:
    for seconds in (*BACKOFF_SECONDS, None):
        try:
            try:
                return attempt()
            except CommandError as error:
                raise explained(remote, error.tail) from None
        except _LaterError as error:
            if seconds is None:
                raise
            say(f"{error.message}; retrying in {seconds:g} s")
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def known_digests(client: "DockerClient", image: str) -> set[str]:
    """Return the registry digests of a local image; empty if the image does not exist."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
    except ImageNotFound:
        return set()
    names = found.attrs.get("RepoDigests") or []
    return {str(found.id), *(str(name).rpartition("@")[2] for name in names)}


def _forget(client: "DockerClient", name: str) -> None:
    from docker.errors import APIError

    with suppress(APIError):
        client.images.remove(name, noprune=False)
