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
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trtyard.core.errors import UsageError
from trtyard.system.reading import Table, nearest, parse_toml
from trtyard.system.uv import ROOT, home

VARIABLE = "TRTYARD_MIRRORS"
FILE = ROOT / "mirrors.toml"
MIRRORS_SCHEMA = 1
REGISTRIES = ("docker.io", "nvcr.io")  # have the rows' base images
GIT_HOSTS = ("github.com",)  # have the rows' sources and their submodules
VENDOR_HOSTS = ("pypi.nvidia.com",)  # package indexes with files that no other index has
_HOST = r"[A-Za-z0-9.-]+(:\d+)?"
_REGISTRY = rf"{_HOST}(/[a-z0-9._-]+)*"
_ADDRESS = r"(https?|file)://[^\s@]+"
# A build uses the address in a sed replacement, so it has none of sed's special characters.
_APT_MIRROR = r"https?://[A-Za-z0-9.:/_~+-]+"
APT_VARIABLE = "TRTYARD_APT_MIRRORS"  # lines of HOST ADDRESS
VENDOR_VARIABLE = "TRTYARD_VENDOR_INDEX"
SNAPSHOTS_VARIABLE = "TRTYARD_SNAPSHOTS"
NETRC_VARIABLE = "TRTYARD_NETRC"
_HINT = "see the example in docs/offline.md"


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """The addresses that replace public ones."""

    registries: Mapping[str, str]  # registry host to its mirror
    index: str  # index of Python packages that replaces uv's default; or ""
    extra_indexes: tuple[str, ...]  # additional ones, such as a vendor's
    apt: Mapping[str, str]  # host in a base image's apt sources to its mirror
    git: Mapping[str, str]  # git host to its mirror
    vendor: Mapping[str, str]  # host of a vendor's own index to its mirror
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
    return _checked(Table(value, file=file, path="", error=UsageError, hint=_HINT), file)


def _checked(top: Table, file: Path) -> Mirrors:
    top.integer("schema", MIRRORS_SCHEMA, MIRRORS_SCHEMA)
    if "snapshots" in top and "@" in top.text("snapshots"):
        raise top.fail("snapshots", "must have no user or password: put them into the netrc")
    registries = top.optional_table("registries")
    for host in registries:
        if host not in REGISTRIES:
            raise registries.fail(host, f"is not a registry of any row{nearest(host, REGISTRIES)}")
    python = top.optional_table("python")
    for key in ("index", "extra"):
        if key in python and "@" in str(python.texts(key) if key == "extra" else python.text(key)):
            raise python.fail(
                key, "must have no user or password: uv reads them from netrc or UV_INDEX_*"
            )
    apt = top.optional_table("apt")
    for host in apt:
        if "@" in apt.text(host):
            raise apt.fail(host, "must have no user or password: put them into the netrc")
        if not re.fullmatch(_HOST, host):
            raise apt.fail(host, "must be a host from the base image's apt sources")
    git = top.optional_table("git")
    for host in git:
        if host not in GIT_HOSTS:
            raise git.fail(host, f"is not a git host of any row{nearest(host, GIT_HOSTS)}")
        if "@" in git.text(host):
            raise git.fail(host, "must have no user or password: use git's credential settings")
    vendor = top.optional_table("vendor")
    for host in vendor:
        if host not in VENDOR_HOSTS:
            raise vendor.fail(host, f"is not a vendor's index{nearest(host, VENDOR_HOSTS)}")
        if "@" in vendor.text(host):
            raise vendor.fail(host, "must have no user or password: put them into the netrc")
    mirrors = Mirrors(
        registries={host: registries.text(host, _REGISTRY, "HOST/PREFIX") for host in registries},
        index=python.text("index", _ADDRESS, "an address") if "index" in python else "",
        extra_indexes=python.texts("extra", _ADDRESS, "addresses") if "extra" in python else (),
        apt={host: apt.text(host, _APT_MIRROR, "an address").rstrip("/") for host in apt},
        snapshots=top.text("snapshots", _APT_MIRROR, "an address").rstrip("/")
        if "snapshots" in top
        else "",
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
        raise top.fail("ca-bundle", f"is {bundle}, which does not exist")
    return bundle.resolve()


def _in_full(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    if rest and re.fullmatch(r"localhost|.*[.:].*", first):
        return first, rest
    return "docker.io", name if rest else f"library/{name}"
