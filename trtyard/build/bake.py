"""What a build would do, and the one bake command that does it for any number of images."""

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
# Half as long to compress and to unpack as the default gzip, for the same size.
_TO_ENGINE = "type=image,compression=zstd,compression-level=1"
SOURCES_STAGE = "parser-source"  # the Dockerfile's, which is a folder for each repository
DEBS_STAGE, VENDOR_STAGE = "debs", "vendor"
OWN = "{target}"  # in a cache's place: the image's target in the bake file
# Caches that are written as a whole, whatever was there.
_ONE_CACHE_A_PLACE = ("registry", "local")
# The secrets of the steps that fetch, and the variables that hold the same.
PLACES = {
    "index": "UV_DEFAULT_INDEX",
    "indexes": "UV_INDEX",
    "apt": APT_VARIABLE,
    "netrc": NETRC_VARIABLE,
    "vendor": VENDOR_VARIABLE,
}
# Arguments that every build knows without its Dockerfile; they stay in no image and no cache key.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")  # in a build step another machine than here
# The one file outside the repository that bake reads is the CA bundle, named on its command line;
# without this it would ask whether it may.
VARIABLES = {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the build of one image would do."""

    row: Row
    locked: LockedRow
    base: BaseKind
    local: tuple[LocalBase, ...]  # the bases to take instead of the published one
    image: str
    store: Path | None = None  # the folder to take all packages from, without a network
    sources: Path | None = None  # the folder to take source repositories from
    vendor: Path | None = None  # the folder to take the vendor's files from
    debs: Path | None = None  # the folder to take packages from that are only unpacked
    stage: Stage = "final"

    @property
    def target(self) -> str:
        """Its target in the bake file."""
        return target_of(self.row.name, self.stage)

    @property
    def labels(self) -> dict[str, str]:
        """What the bake command adds to the labels of the Dockerfile."""
        return {CONTENT_LABEL: context_key(self.row, [])}

    def command(
        self, docker: Path, builder: str, *, no_cache: bool = False, output: str = ""
    ) -> list[Word]:
        """Return the bake command for this image alone, see ``bake_command``."""
        return bake_command([self], docker, builder, no_cache=no_cache, output=output)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build, whatever the row."""

    base: str = "auto"
    builder: str = ""
    no_cache: bool = False
    store: str = ""
    locked: bool = False  # refuse what the lock leaves open, without asking anyone for it
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
    """Return one bake command for all ``plans``, to be run in the repository's root.

    ``output`` is BuildKit's; without one the images go to the engine. ``cache_from`` and
    ``cache_to`` are too, with ``{target}`` for each image's own. What two rows have alike
    is built once. ``UsageError`` where several would leave their caches in one place.
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
    """Check ``--cache-from`` and ``--cache-to``: BuildKit's ``type=KIND[,KEY=VALUE]...``."""
    for word in words:
        pairs = [pair.partition("=") for pair in word.split(",")]
        keys = {key for key, _, value in pairs if value}
        if "type" not in keys or len(keys) != len(pairs):
            raise UsageError(
                f"{option} must be BuildKit's type=KIND,KEY=VALUE,..., not {word!r}",
                "for example type=registry,ref=registry.example.org/team/cache or"
                " type=local,dest=cache",
            )
    return tuple(words)


def _refuse_one_place(cache_to: Sequence[str], images: int) -> None:
    for place in cache_to:
        kind = next(pair[5:] for pair in place.split(",") if pair.startswith("type="))
        if kind in _ONE_CACHE_A_PLACE and OWN not in place and images > 1:
            raise UsageError(
                f"--cache-to {place}: of {images} images the last would replace the others' cache",
                f"put {OWN} into its name, which stands for each image's own",
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
    # Where packages come from may hold a password: BuildKit reads the variable by itself.
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
    """Return the variables that name a proxy which a build step can reach, or what needs none.

    Their names alone: a proxy's address may hold a password, and buildx reads it by itself.
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
