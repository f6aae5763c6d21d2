"""Images to and from a registry, through the engine: push, and pull by digest.

The engine compares every blob with its digest. What it cannot know is compared here: that the
image behind a tag is the one that this tree would build, by the labels that the build gave it.
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
# How long to wait before asking a registry again that says 429 or 503.
BACKOFF_SECONDS: tuple[float, ...] = (1, 3, 9)

# Docker takes a first word without dot, colon or this name for a folder of Docker Hub.
_HOST = r"localhost(:\d+)?|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+"
_FOLDER = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
# How engines put it, the older image store's words among them.
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
_UNTAGGED_MEANWHILE = re.compile(r"does not exist locally|no such image|tag does not exist")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Where images are kept: a host and perhaps folders, as in ``registry.example.org/team``."""

    prefix: str

    @classmethod
    def configured(cls, option: str = "") -> "Registry | None":
        """Return the registry that the option or else the environment names, or None."""
        text = option or os.environ.get(VARIABLE, "")
        source = "--registry" if option else VARIABLE
        if not text:
            return None
        # First, and without showing it: it may hold a password.
        if "@" in text:
            raise UsageError(
                f"{source} must name no user or password",
                "docker login HOST   keeps them for the engine",
            )
        if "://" in text:
            raise UsageError(f"{source} is HOST/PREFIX without a scheme, not {text!r}")
        if not re.fullmatch(rf"({_HOST})(/{_FOLDER})*", text):
            raise UsageError(
                f"{source} must be HOST[:PORT][/PREFIX], not {text!r}",
                "for example registry.example.org/team or localhost:5000",
            )
        return cls(prefix=text)

    @classmethod
    def needed(cls, option: str) -> "Registry":
        """Return the registry that is named; ``UsageError`` where none is."""
        registry = cls.configured(option)
        if registry is None:
            raise UsageError("no registry is named", f"--registry HOST/PREFIX, or set {VARIABLE}")
        return registry

    def image(self, row_name: str, key: str) -> str:
        """Return the name of the row's image with that content key."""
        return f"{self.prefix}/{row_name}:{key}"


class NotPublishedError(EnvironmentLacksError):
    """The registry answers, and does not have the image."""


def push_image(client: "DockerClient", docker: Path, local: str, remote: str) -> str:
    """Push the image ``local`` under the name ``remote``; return the digest it has there.

    A registry takes the tag last, so a push that is broken off leaves none. What is there then, or
    was there before, is read back, and what is damaged is replaced (``repair``).
    """
    with suppress(EnvironmentLacksError):  # not published, or its manifest is damaged
        there = digest_of(client, remote)
        if is_same(client, local, remote, there):
            say(f"{remote} is there already: {there}")
            return _verified(client, local, remote, there)

    def attempt() -> None:
        # Each time anew: another push that ends takes the name away.
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
        say(f"{remote} is by now another push's: {digest}")
        return digest
    if digest:
        say(f"{remote} is pushed: {digest}")
    return _verified(client, local, remote, digest)


def is_same(client: "DockerClient", local: str, remote: str, digest: str) -> bool:
    """Tell whether the image with that digest in a registry is ``local``, perhaps repaired."""
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
    """Read the image back, replace what is damaged, and return the digest that it has then."""
    try:
        found = verified(client, local, remote)
    except EnvironmentLacksError as error:
        if not digest:
            raise
        say(f"it was not read back: {error.message}")
        return digest
    if found.digest == digest:
        say(f"{remote} is right, {found.blobs} blobs: {digest}")
    else:
        say(f"{remote} is right, {found.blobs} blobs, and has another digest: {found.digest}")
    return found.digest


def pull_image(
    client: "DockerClient", docker: Path, remote: str, local: str, labels: Mapping[str, str]
) -> str:
    """Pull ``remote`` by its digest, prove that it has ``labels``, name it ``local``; return that.

    Where the engine has that digest as ``local``, nothing is moved.
    """
    known = known_digests(client, local)
    digest = _digest_unread(remote) if known else ""
    if digest not in known:
        digest = digest_of(client, remote)
    if digest in known:
        check_labels(client, local, labels)
        say(f"{local} is here already: {digest}; nothing was moved")
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
    # Only one name, so that removing it removes the image. The older image store knows the digest
    # by this name alone, and takes it away with the image.
    if client.images.get(local).id == digest and not was_here:
        _forget(client, by_digest)
    say(f"{local} is pulled from {by_digest}")
    return local


def digest_of(client: "DockerClient", remote: str) -> str:
    """Return the digest behind a tag; ``NotPublishedError`` if the registry has no such tag."""
    from docker.errors import APIError
    from requests.exceptions import RequestException

    def attempt() -> str:
        waited, client.api.timeout = client.api.timeout, ANSWER_SECONDS
        try:
            found = client.api.inspect_distribution(remote)
        except APIError as error:
            raise explained(remote, str(error.explanation or error)) from None
        except RequestException:
            raise explained(remote, f"no answer in {ANSWER_SECONDS} s") from None
        finally:
            client.api.timeout = waited
        return str(found["Descriptor"]["digest"])

    return _asking(remote, attempt)


def _digest_unread(remote: str) -> str:
    """Return the digest behind a tag without reading anything, or "" where that cannot be had.

    The engine, which may know this registry's certificate or mirror better, reads the image's
    manifest and configuration to tell it.
    """
    from requests import RequestException

    try:
        return Repository.of(remote, retries=0).digest(remote.rpartition(":")[2])
    except RequestException:
        return ""


def check_labels(client: "DockerClient", image: str, labels: Mapping[str, str]) -> None:
    """``IntegrityError`` where a label of the image is another or missing."""
    found = client.images.get(image).labels
    for name, expected in labels.items():
        if found.get(name) != expected:
            raise IntegrityError(
                f"{image} is not what this tree builds: its label {name} expects"
                f" {expected}, found {found.get(name, 'none')}",
                "do not use it; build it here: ./run build",
            )


def explained(remote: str, said: str) -> TrtyardError:
    """Tell from the engine's words what was wrong."""
    host, text = remote.partition("/")[0], said.lower()
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word")
    if "docker daemon" in text or "error reading from server: eof" in text:
        return EnvironmentLacksError(
            f"the Docker engine went away: {last}",
            "sudo systemctl restart docker, then the same command again",
        )
    if _NOT_WHAT_IT_SHOULD_BE.search(text):
        return IntegrityError(
            f"{remote}: the registry gave other bytes than its digests name: {last}",
            "do not use it; ./run push on a machine that has the image replaces what is damaged",
        )
    if "no space left" in text:
        return EnvironmentLacksError(
            f"the disk is full: {last}", "docker system df   shows what Docker keeps"
        )
    if _LATER.search(text):
        return _LaterError(f"{host} has had too many requests: {last}", "try again later")
    if _CUT_SHORT.search(text):
        return _LaterError(
            f"{remote}: the registry gives less than its manifest names: {last}",
            "if that stays so: ./run push on a machine that has the image replaces what is damaged",
        )
    if _UNTAGGED_MEANWHILE.search(text):
        return _LaterError(f"{remote} lost its name while it was pushed: {last}")
    if _BROKEN_TAG.search(text):
        return _BrokenTagError(
            f"{remote}: the registry cannot read its manifest: {last}",
            "./run push on a machine that has the image replaces it",
        )
    if _REFUSED.search(text):
        return EnvironmentLacksError(f"{host} refuses: {last}", f"docker login {host}")
    if _NOT_THERE.search(text):
        return NotPublishedError(
            f"{remote} is not there", "build it here: ./run build; and for others: ./run push"
        )
    return EnvironmentLacksError(
        f"{host} cannot be reached: {last}",
        "look to the network and the registry's name; ./run build needs none",
    )


class _BrokenTagError(EnvironmentLacksError):
    """The registry answers, and has a damaged manifest under the tag."""


class _LaterError(EnvironmentLacksError):
    """Asking again may help."""


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
            say(f"{error.message}; again in {seconds:g} s")
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def known_digests(client: "DockerClient", image: str) -> set[str]:
    """Return the digests by which registries know the image, none where it is not here."""
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
