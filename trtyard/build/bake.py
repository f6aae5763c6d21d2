"""Plans builds and makes one bake command for any number of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from trtyard.build.local_base import LocalBase
from trtyard.core.errors import UsageError
from trtyard.fetching.mirrors import (
    APT_VARIABLE,
    NETRC_VARIABLE,
    SNAPSHOTS_VARIABLE,
    VENDOR_VARIABLE,
    Mirrors,
    read_mirrors,
)
from trtyard.lock.file import LockedRow
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import (
    BAKE_FILE,
    CA_BUNDLE,
    CONTENT_LABEL,
    Stage,
    context_key,
    target_of,
)
from trtyard.system.processes import Word

BaseKind = Literal["local", "published"]
DEFAULT_BUILDER = "default"  # buildx's name for the engine itself
# Compresses and unpacks in half the time of the default, gzip, at the same size.
_TO_ENGINE = "type=image,compression=zstd,compression-level=1"
SOURCES_STAGE = "parser-source"  # stage of the Dockerfile with a folder for each repository
DEBS_STAGE, VENDOR_STAGE = "debs", "vendor"
OWN = "{target}"  # in a cache's address: replaced by the image's target in the bake file
# Cache types whose address is overwritten by each export.
_ONE_CACHE_A_PLACE = ("registry", "local")
# The secrets of the steps that download, and the variables with their values.
PLACES = {
    "index": "UV_DEFAULT_INDEX",
    "indexes": "UV_INDEX",
    "apt": APT_VARIABLE,
    "snapshots": SNAPSHOTS_VARIABLE,
    "netrc": NETRC_VARIABLE,
    "vendor": VENDOR_VARIABLE,
}
# Predefined build arguments; they are not in images or cache keys.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")  # inside a build step, not this machine
# bake reads one file outside the repository, the CA bundle on its command line. Without this
# variable it would ask for permission.
VARIABLES = {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The planned build of one image."""

    row: Row
    locked: LockedRow
    base: BaseKind
    local: tuple[LocalBase, ...]  # the bases that replace the published one
    image: str
    store: Path | None = None  # folder with all packages, for a build without a network
    sources: Path | None = None  # folder with the source repositories
    vendor: Path | None = None  # folder with the vendor's files
    debs: Path | None = None  # folder with the packages that are only unpacked
    stage: Stage = "final"

    @property
    def target(self) -> str:
        """Its target in the bake file."""
        return target_of(self.row.name, self.stage)

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the bake command adds to those of the Dockerfile."""
        return {CONTENT_LABEL: context_key(self.row, [])}

    def command(
        self, docker: Path, builder: str, *, no_cache: bool = False, output: str = ""
    ) -> list[Word]:
        """Return the bake command for only this image, see ``bake_command``."""
        return bake_command([self], docker, builder, no_cache=no_cache, output=output)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Build options that apply to all rows."""

    base: str = "auto"
    builder: str = ""
    no_cache: bool = False
    store: str = ""
    locked: bool = False  # reject unresolved rows instead of resolving them
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    dry_run: bool = False


USUAL = Options()


def bake_command(
    plans: Sequence[Plan],
    docker: Path,
    builder: str,
    *,
    no_cache: bool = False,
    output: str = "",
    cache_from: Sequence[str] = (),
    cache_to: Sequence[str] = (),
) -> list[Word]:
    """Return one bake command for all ``plans``; run it in the repository's root.

    ``output``, ``cache_from`` and ``cache_to`` have BuildKit's format. Without ``output`` the
    images go to the engine. In a cache, ``{target}`` is replaced by each image's target. Layers
    that rows share are built once. Raises ``UsageError`` if several images would write the same
    cache.
    """
    _refuse_one_place(cache_to, len(plans))
    mirrors = read_mirrors()
    command: list[Word] = [docker, "buildx", "bake", "--file", BAKE_FILE, "--builder", builder]
    to_engine = not output and builder != DEFAULT_BUILDER
    if to_engine:
        command.append("--load")
    for plan in plans:
        settings = _settings(plan, mirrors)
        settings += [f"cache-from={one.replace(OWN, plan.target)}" for one in cache_from]
        settings += [f"cache-to={one.replace(OWN, plan.target)}" for one in cache_to]
        if not to_engine:
            settings.append(f"output={output or _TO_ENGINE}")
        for setting in settings:
            command += ["--set", f"{plan.target}.{setting}"]
    if no_cache:
        command.append("--no-cache")
    return [*command, *(plan.target for plan in plans)]


def cache_places(option: str, words: Sequence[str]) -> tuple[str, ...]:
    """Return the values of ``--cache-from`` or ``--cache-to`` after checking their format.

    The format is BuildKit's ``type=KIND[,KEY=VALUE]...``.
    """
    for word in words:
        pairs = [pair.partition("=") for pair in word.split(",")]
        keys = {key for key, _, value in pairs if value}
        if "type" not in keys or len(keys) != len(pairs):
            raise UsageError(
                f"{option} must have BuildKit's format type=KIND,KEY=VALUE,..., not {word!r}",
                "for example type=registry,ref=registry.example.org/team/cache or"
                " type=local,dest=cache",
            )
    return tuple(words)


def _refuse_one_place(cache_to: Sequence[str], images: int) -> None:
    for place in cache_to:
        kind = next(pair[5:] for pair in place.split(",") if pair.startswith("type="))
        if kind in _ONE_CACHE_A_PLACE and OWN not in place and images > 1:
            raise UsageError(
                f"--cache-to {place}: {images} images would overwrite each other's cache",
                f"add {OWN} to the name: it is replaced by each image's own target",
            )


def _settings(plan: Plan, mirrors: Mirrors) -> list[str]:
    settings = [f"tags={plan.image}"]
    settings += [f"contexts.{base.stage}=docker-image://{base.image}" for base in plan.local]
    bundle = os.environ.get("SSL_CERT_FILE") or CA_BUNDLE
    if Path(bundle).is_file():
        settings.append(f"secrets=id=ca,src={bundle}")
    settings += [f"labels.{key}={value}" for key, value in plan.labels.items()]
    reference, mirror = plan.locked.base.reference, mirrors.image(plan.locked.base.reference)
    if plan.base == "published" and mirror != reference:
        settings.append(f"contexts.{reference}=docker-image://{mirror}")
    # An index's address may hold a password, so BuildKit reads it from the variable.
    settings += [
        f"secrets=type=env,id={name},env={variable}"
        for name, variable in PLACES.items()
        if os.environ.get(variable)
    ]
    if plan.store is None:
        settings += [f"args.{name}" for name in _proxies()]
    if plan.sources is not None:
        settings.append(f"contexts.{SOURCES_STAGE}={plan.sources}")
    if plan.vendor is not None:
        settings.append(f"contexts.{VENDOR_STAGE}={plan.vendor}")
    if plan.debs is not None:
        settings.append(f"contexts.{DEBS_STAGE}={plan.debs}")
    if plan.store is not None:
        settings += [f"contexts.store={plan.store}", "network=none"]
    return settings


def _proxies() -> list[str]:
    """Return the names of the proxy variables to pass to build steps.

    A proxy on this machine's loopback is skipped: a build step cannot reach it. Only the names are
    passed, because a proxy's address may hold a password; buildx reads the values itself.
    """
    names = [name for one in _PROXIES for name in (one, one.lower()) if os.environ.get(name)]
    exceptions = ("NO_PROXY", "no_proxy")
    found = [
        name
        for name in names
        if name not in exceptions and urlsplit(_address(os.environ[name])).hostname not in _LOOPBACK
    ]
    return found and [name for name in names if name in (*found, *exceptions)]


def _address(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
