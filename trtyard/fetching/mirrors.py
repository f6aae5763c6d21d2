"""A company's own registries, package indexes, apt sources and git hosts: ``mirrors.toml``.

The file is named by ``TRTYARD_MIRRORS`` or lies in the tree's root, where git ignores it. It says
where things come from, never what they are: that is the lock's. It holds no credentials: those are
``docker login``'s, uv's own variables', git's and netrc's. Of the netrc an image's build gets the
lines of the mirrors' hosts and no others.
"""

import netrc
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trtyard.core.errors import UsageError
from trtyard.system.reading import Table, nearest, parse_toml
from trtyard.system.uv import ROOT, home

VARIABLE = "TRTYARD_MIRRORS"
FILE = ROOT / "mirrors.toml"
MIRRORS_SCHEMA = 1
REGISTRIES = ("docker.io", "nvcr.io")  # those that rows start from
GIT_HOSTS = ("github.com",)  # where rows' sources and their submodules are
VENDOR_HOSTS = ("pypi.nvidia.com",)  # indexes of files that no other index has
_HOST = r"[A-Za-z0-9.-]+(:\d+)?"
_REGISTRY = rf"{_HOST}(/[a-z0-9._-]+)*"
_ADDRESS = r"(https?|file)://[^\s@]+"
# In a build these stand in a sed command's replacement: none of its own characters.
_APT_MIRROR = r"https?://[A-Za-z0-9.:/_~+-]+"
APT_VARIABLE = "TRTYARD_APT_MIRRORS"  # a line HOST ADDRESS each
VENDOR_VARIABLE = "TRTYARD_VENDOR_INDEX"
NETRC_VARIABLE = "TRTYARD_NETRC"
_HINT = "docs/offline.md shows such a file"


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """Where things come from instead of their usual places."""

    registries: Mapping[str, str]  # a registry's host to the place that has its images
    index: str  # of Python packages, instead of the usual one; or ""
    extra_indexes: tuple[str, ...]  # besides it, such as a vendor's
    apt: Mapping[str, str]  # the host in a base image's apt sources to the address in its place
    git: Mapping[str, str]  # a git host to the address in its place
    vendor: Mapping[str, str]  # a vendor's own index to the address in its place
    ca_bundle: Path | None

    def git_settings(self) -> list[str]:
        """Return the options that make git ask the mirrors, submodules' addresses included."""
        pairs = ((place, host) for host, place in self.git.items())
        return [
            word
            for place, host in pairs
            for word in ("-c", f"url.{place}/.insteadOf=https://{host}/")
        ]

    def image(self, name: str) -> str:
        """Return the name under which the mirror has an image; the same where none is set.

        ``debian:bookworm-slim`` is ``docker.io/library/debian`` in full, as Docker reads it.
        """
        host, path = _in_full(name)
        mirror = self.registries.get(host)
        return f"{mirror}/{path}" if mirror else name

    def set_variables(self, environment: MutableMapping[str, str]) -> None:
        """Tell uv and everything that checks certificates; what the user has set stays."""
        values = {
            "UV_DEFAULT_INDEX": self.index,
            "UV_INDEX": " ".join(self.extra_indexes),
            "SSL_CERT_FILE": str(self.ca_bundle or ""),
            APT_VARIABLE: "".join(f"{host} {place}\n" for host, place in self.apt.items()),
            VENDOR_VARIABLE: "".join(self.vendor.values()),
            NETRC_VARIABLE: self._netrc(environment),
        }
        for name, value in values.items():
            if value:
                environment.setdefault(name, value)

    def _netrc(self, environment: Mapping[str, str]) -> str:
        """Return what the user's netrc has of the mirrors' hosts, as a netrc."""
        places = (self.index, *self.extra_indexes, *self.apt.values(), *self.vendor.values())
        hosts = dict.fromkeys(urlsplit(place).hostname for place in places if place)
        named = environment.get("NETRC", "")
        file = Path(named) if named else home() / ".netrc"
        if not hosts or not file.is_file():
            return ""
        try:
            entries = netrc.netrc(str(file)).hosts
        except (OSError, netrc.NetrcParseError) as error:
            # Not its text: the line may hold a password.
            line = getattr(error, "lineno", None)
            where = f"{file}, line {line}," if line else str(file)
            raise UsageError(f"{where} cannot be read as a netrc", "fix it") from None
        found = ((host, entries[host]) for host in hosts if host in entries)
        return "".join(
            f"machine {host} login {login} password {password}\n"
            for host, (login, _, password) in found
        )


NONE = Mirrors(registries={}, index="", extra_indexes=(), apt={}, git={}, vendor={}, ca_bundle=None)


def read_mirrors() -> Mirrors:
    """Read the user's mirrors, or ``NONE`` where there is no such file.

    ``UsageError`` names the file, the key and what would be right.
    """
    named = os.environ.get(VARIABLE, "")
    file = Path(named).expanduser() if named else FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named:
            raise UsageError(f"{VARIABLE} names {file}, which is not there", _HINT) from None
        return NONE
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    try:
        value = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {error}", _HINT) from None
    return _checked(Table(value, file=file, path="", error=UsageError, hint=_HINT), file)


def _checked(top: Table, file: Path) -> Mirrors:
    top.integer("schema", MIRRORS_SCHEMA, MIRRORS_SCHEMA)
    registries = top.optional_table("registries")
    for host in registries:
        if host not in REGISTRIES:
            raise registries.fail(host, f"is no registry of any row{nearest(host, REGISTRIES)}")
    python = top.optional_table("python")
    for key in ("index", "extra"):
        if key in python and "@" in str(python.texts(key) if key == "extra" else python.text(key)):
            raise python.fail(
                key, "must name no user or password: uv takes those from netrc or UV_INDEX_*"
            )
    apt = top.optional_table("apt")
    for host in apt:
        if "@" in apt.text(host):
            raise apt.fail(host, "must name no user or password: those are netrc's")
        if not re.fullmatch(_HOST, host):
            raise apt.fail(host, "must be a host as it stands in the base image's apt sources")
    git = top.optional_table("git")
    for host in git:
        if host not in GIT_HOSTS:
            raise git.fail(host, f"is no git host of any row{nearest(host, GIT_HOSTS)}")
        if "@" in git.text(host):
            raise git.fail(host, "must name no user or password: those are git's own affair")
    vendor = top.optional_table("vendor")
    for host in vendor:
        if host not in VENDOR_HOSTS:
            raise vendor.fail(host, f"is no vendor's index{nearest(host, VENDOR_HOSTS)}")
        if "@" in vendor.text(host):
            raise vendor.fail(host, "must name no user or password: those are netrc's")
    mirrors = Mirrors(
        registries={host: registries.text(host, _REGISTRY, "HOST/PREFIX") for host in registries},
        index=python.text("index", _ADDRESS, "an address") if "index" in python else "",
        extra_indexes=python.texts("extra", _ADDRESS, "addresses") if "extra" in python else (),
        apt={host: apt.text(host, _APT_MIRROR, "an address").rstrip("/") for host in apt},
        ca_bundle=_bundle(top, file) if "ca-bundle" in top else None,
        git={host: git.text(host, _ADDRESS, "an address").rstrip("/") for host in git},
        vendor={
            host: vendor.text(host, r"https?://[^\s@]+", "an address").rstrip("/")
            for host in vendor
        },
    )
    python.finish()
    top.finish()
    return mirrors


def _bundle(top: Table, file: Path) -> Path:
    bundle = file.parent / Path(top.text("ca-bundle")).expanduser()
    if not bundle.is_file():
        raise top.fail("ca-bundle", f"names {bundle}, which is not there")
    return bundle.resolve()


def _in_full(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    if rest and re.fullmatch(r"localhost|.*[.:].*", first):
        return first, rest
    return "docker.io", name if rest else f"library/{name}"
