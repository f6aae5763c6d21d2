"""A company's own registries, package indexes, apt sources and git hosts: ``mirrors.toml``.

``TRTYARD_MIRRORS`` names the file; the default is the repository's root, where git ignores it. It
says where files come from; the lock says which files. It holds no credentials: those come from
``docker login``, uv's variables, git and netrc. An image's build gets the netrc lines of the
mirrors' hosts and no others.
"""

import netrc
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from trtyard.core.errors import UsageError
from trtyard.system.reading import AtLeastOne, Matching, Reader, parse_toml
from trtyard.system.uv import ROOT, home

VARIABLE = "TRTYARD_MIRRORS"
FILE = ROOT / "mirrors.toml"
_HOST = r"[A-Za-z0-9.-]+(:\d+)?"
APT_VARIABLE = "TRTYARD_APT_MIRRORS"  # lines of HOST ADDRESS
VENDOR_VARIABLE = "TRTYARD_VENDOR_INDEX"
SNAPSHOTS_VARIABLE = "TRTYARD_SNAPSHOTS"
NETRC_VARIABLE = "TRTYARD_NETRC"
_HINT = "see the example in docs/offline.md"

VendorHost = Literal["pypi.nvidia.com"]
_IN_NETRC = "put them into the netrc"
_OF_UV = "uv reads them from netrc or UV_INDEX_*"
_OF_GIT = "use git's credential settings"
_ADDRESS = r"(https?|file)://[^\s@]+"
# A build uses the address in a sed replacement, so it has none of sed's special characters.
_AptMirror = Annotated[str, Matching(r"https?://[A-Za-z0-9.:/_~+-]+", "an address", _IN_NETRC)]
_Index = Annotated[str, Matching(_ADDRESS, "an address", _OF_UV)]


@dataclass(frozen=True, kw_only=True)
class _Indexes:
    index: _Index = ""
    extra: AtLeastOne[_Index] = ()


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of ``mirrors.toml``."""

    schema: Literal[1]
    snapshots: _AptMirror = ""
    registries: Mapping[  # with the rows' base images
        Literal["docker.io", "nvcr.io"],
        Annotated[str, Matching(rf"{_HOST}(/[a-z0-9._-]+)*", "HOST/PREFIX")],
    ] = field(default_factory=dict)
    python: _Indexes = field(default_factory=_Indexes)
    apt: Mapping[
        Annotated[str, Matching(_HOST, "a host from the base image's apt sources")], _AptMirror
    ] = field(default_factory=dict)
    git: Mapping[  # with the rows' sources and their submodules
        Literal["github.com"], Annotated[str, Matching(_ADDRESS, "an address", _OF_GIT)]
    ] = field(default_factory=dict)
    vendor: Mapping[  # package indexes with files that no other index has
        VendorHost,
        Annotated[str, Matching(r"https?://[^\s@]+", "an address", _IN_NETRC)],
    ] = field(default_factory=dict)
    weights: Mapping[  # hosts of published weights
        Annotated[str, Matching(_HOST, "a host of published weights")],
        Annotated[str, Matching(r"https?://[^\s@]+", "an address", _IN_NETRC)],
    ] = field(default_factory=dict)
    ca_bundle: str = ""


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """The addresses that replace public ones."""

    registries: Mapping[str, str]  # registry host to its mirror
    index: str  # index of Python packages that replaces uv's default; or ""
    extra_indexes: tuple[str, ...]  # additional ones, such as a vendor's
    apt: Mapping[str, str]  # host in a base image's apt sources to its mirror
    git: Mapping[str, str]  # git host to its mirror
    vendor: Mapping[str, str]  # host of a vendor's own index to its mirror
    weights: Mapping[str, str]  # host of published weights to its mirror
    snapshots: str  # address of Debian's snapshot service or its mirror; or ""
    ca_bundle: Path | None

    def git_settings(self) -> list[str]:
        """Return the options that make git use the mirrors, also for submodules."""
        pairs = ((place, host) for host, place in self.git.items())
        return [
            word
            for place, host in pairs
            for word in ("-c", f"url.{place}/.insteadOf=https://{host}/")
        ]

    def image(self, name: str) -> str:
        """Return the image's name on its mirror, or ``name`` if its registry has no mirror.

        As with Docker, ``debian:bookworm-slim`` stands for ``docker.io/library/debian``.
        """
        host, path = _in_full(name)
        mirror = self.registries.get(host)
        return f"{mirror}/{path}" if mirror else name

    def weights_address(self, address: str) -> str:
        """Return the address of a file of weights on its mirror, if its host has one."""
        host = urlsplit(address).netloc
        mirror = self.weights.get(host)
        return f"{mirror}{address.partition(host)[2]}" if mirror else address

    def set_variables(self, environment: MutableMapping[str, str]) -> None:
        """Set the mirrors' variables in ``environment``; variables that the user has set stay."""
        values = {
            "UV_DEFAULT_INDEX": self.index,
            "UV_INDEX": " ".join(self.extra_indexes),
            "SSL_CERT_FILE": str(self.ca_bundle or ""),
            APT_VARIABLE: "".join(f"{host} {place}\n" for host, place in self.apt.items()),
            VENDOR_VARIABLE: "".join(self.vendor.values()),
            SNAPSHOTS_VARIABLE: self.snapshots,
            NETRC_VARIABLE: self._netrc(environment),
        }
        for name, value in values.items():
            if value:
                environment.setdefault(name, value)

    def _netrc(self, environment: Mapping[str, str]) -> str:
        """Return a netrc with the entries of the user's netrc for the mirrors' hosts."""
        places = (self.index, *self.extra_indexes, *self.apt.values(), *self.vendor.values())
        places = (*places, self.snapshots)
        hosts = dict.fromkeys(urlsplit(place).hostname for place in places if place)
        named = environment.get("NETRC", "")
        file = Path(named) if named else home() / ".netrc"
        if not hosts or not file.is_file():
            return ""
        try:
            entries = netrc.netrc(str(file)).hosts
        except (OSError, netrc.NetrcParseError) as error:
            # The message omits the error's text, because the line may hold a password.
            line = getattr(error, "lineno", None)
            where = f"{file}, line {line}" if line else str(file)
            raise UsageError(f"{where}: not a valid netrc", f"fix {file}") from None
        found = ((host, entries[host]) for host in hosts if host in entries)
        return "".join(
            f"machine {host} login {login} password {password}\n"
            for host, (login, _, password) in found
        )


NONE = Mirrors(
    registries={},
    index="",
    extra_indexes=(),
    apt={},
    git={},
    vendor={},
    weights={},
    snapshots="",
    ca_bundle=None,
)


def read_mirrors() -> Mirrors:
    """Return the user's mirrors, or ``NONE`` if there is no ``mirrors.toml``.

    ``UsageError`` names the file, the key and the expected value.
    """
    named = os.environ.get(VARIABLE, "")
    file = Path(named).expanduser() if named else FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named:
            raise UsageError(f"{VARIABLE}={named}: no such file", _HINT) from None
        return NONE
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    try:
        value = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {error}", _HINT) from None
    return _checked(Reader(file=file, error=UsageError, hint=_HINT, dashes=True), value)


def _checked(reader: Reader, value: object) -> Mirrors:
    found = reader.read(_File, value)
    bundle = reader.file.parent / Path(found.ca_bundle).expanduser()
    if found.ca_bundle and not bundle.is_file():
        raise reader.fail("ca-bundle", f"is {bundle}, which does not exist")
    return Mirrors(
        registries=_no_slash(found.registries),
        index=found.python.index,
        extra_indexes=found.python.extra,
        apt=_no_slash(found.apt),
        git=_no_slash(found.git),
        vendor=_no_slash(found.vendor),
        weights=_no_slash(found.weights),
        snapshots=found.snapshots.rstrip("/"),
        ca_bundle=bundle.resolve() if found.ca_bundle else None,
    )


def _no_slash(places: Mapping[Any, str]) -> dict[str, str]:
    return {host: place.rstrip("/") for host, place in places.items()}


def _in_full(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    if rest and re.fullmatch(r"localhost|.*[.:].*", first):
        return first, rest
    return "docker.io", name if rest else f"library/{name}"
