"""Images written as OCI layouts: built from nothing, or taken out of the engine.

From nothing: no step and no cache mount of an earlier build is used, and bases that are made here
are made anew, under names of their own. What is taken as it is has its hash in ``versions.lock``.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.build.bake import DEFAULT_BUILDER, VARIABLES, Plan
from trtyard.build.build import wheel_bytes
from trtyard.build.buildkit import explained
from trtyard.build.local_base import local_bases, make_bases
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.inventory import BASE_FACTS
from trtyard.prove.oci import Image, read_image
from trtyard.system.docker_engine import image_id
from trtyard.system.folders import empty_own, locked, make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, ROOT, YARD

if TYPE_CHECKING:
    from docker import DockerClient

FOLDER = YARD / "reproduce"
NAMES = ("first", "second")
MOUNTS = "trtyard-reproduce"  # before the names of a build's cache mounts
# Bytes that a build takes in the builder and as a layout for each byte of wheel. Measured for row
# rtx-1.7: 12 GB and 5.5 GB from 3.06 GB.
BUILDER_PER_WHEEL_BYTE = 4
LAYOUT_PER_WHEEL_BYTE = 2
# Layers as plain tars, which can be read file by file and take no time to compress.
_LAYOUT = "type=oci,tar=false,compression=uncompressed,force-compression=true,dest="
# Of this checkout's bases, so that another's on the same engine are not in the way.
_SUFFIX = f"-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image, and how it came about."""

    name: str  # one of NAMES, or the image's own
    image: Image
    seconds: float
    bases: tuple[str | None, ...] = ()  # ids of the bases that were made for it, as base.STAGES


def from_nothing(
    client: "DockerClient", docker: Path, plan: Plan, name: str, *, like: bool = False
) -> Built:
    """Build the plan's image, its own bases first.

    With ``like`` the plan's bases take their place where the distribution has moved on since those
    were made, so that nothing is left but what the build itself does.
    """
    say(f"building {plan.row.name}, {plan.stage}, from nothing: {name}")
    started = time.monotonic()
    own, mounts = with_own_bases(plan, name), f"{MOUNTS}-{uuid.uuid4().hex[:12]}"
    with _forgotten(client, docker, own, mounts):
        if own.local:
            store, suffix = str(plan.store or ""), own.local[0].suffix
            make_bases(plan.row, plan.locked, force=True, store=store, suffix=suffix)
        taken = plan if like and moved_on(client, plan, own) else own
        bases = base_ids(client, taken)
        image = layout_of(build_command(docker, taken, name, mounts), FOLDER / name, VARIABLES)
    built = Built(name=name, image=image, bases=bases, seconds=time.monotonic() - started)
    say(f"the {name} took {built.seconds:.0f} s: {image.digest}")
    return built


def base_ids(client: "DockerClient", plan: Plan) -> tuple[str | None, ...]:
    """Return the ids of the plan's bases that were made here, None for one that is not there."""
    return tuple(image_id(client, base.image) for base in plan.local)


def moved_on(client: "DockerClient", plan: Plan, own: Plan) -> bool:
    """Tell whether the distribution has other versions now than in the plan's bases."""
    for before, now in zip(plan.local, own.local, strict=True):
        if image_id(client, before.image) is None:
            continue
        old, new = (_other_versions(client, base.image) for base in (before, now))
        if old != new:
            changed = ", ".join(sorted({name for name, *_ in old ^ new}))
            say(f"the apt sources have other versions of {changed} by now than {before.image},")
            say("which is taken as it is")
            return True
    return False


def _other_versions(client: "DockerClient", image: str) -> set[tuple[str, ...]]:
    """Return the packages of a base that are not in the locked version: name, locked, there."""
    show_facts = {"entrypoint": "cat", "command": [str(BASE_FACTS)]}
    limits = {"mem_limit": "256m", "pids_limit": 16}
    text = client.containers.run(image, **show_facts, **limits, network_mode="none", remove=True)
    return {tuple(one) for one in json.loads(text)["other_versions"]}


def from_engine(client: "DockerClient", docker: Path, name: str, other: Built) -> Built:
    """Take an image out of the engine, unless the engine says that it is the ``other``.

    Taking it out is the build of a Dockerfile that only names it, which keeps its configuration.
    """
    started = time.monotonic()
    facts = client.images.get(name).attrs
    # The older image store calls an image by its configuration, the newer one by its manifest.
    noted = (facts.get("Descriptor") or {}).get("annotations") or {}
    if other.image.digest in (facts["Id"], noted.get("config.digest")):
        image = other.image
    else:
        say(f"reading {name}, which is not the same")
        context, folder = FOLDER / "context", FOLDER / NAMES[0]
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {name}\n", encoding="utf-8")
        image = layout_of(plain_command(docker, context, folder), folder)
    if list(image.layers) != facts["RootFS"]["Layers"]:
        raise IntegrityError(f"the layers of {name} are not those that the engine names")
    return Built(name=name, image=image, seconds=time.monotonic() - started)


def layout_of(
    command: Sequence[Word], folder: Path, variables: Mapping[str, str] | None = None
) -> Image:
    """Run a build that writes its image as a layout into ``folder``, and read that."""
    try:
        check(command, cwd=ROOT, env={**os.environ, **(variables or {})})
    except CommandError as error:
        raise explained(error) from None
    return read_image(folder)


def plain_command(docker: Path, context: Path, folder: Path) -> list[Word]:
    """Return the command that builds a folder with a Dockerfile and writes the layout."""
    command: list[Word] = [docker, "buildx", "build", "--builder", DEFAULT_BUILDER, "--no-cache"]
    return [*command, "--provenance=false", "--output", f"{_LAYOUT}{folder}", context]


def build_command(docker: Path, plan: Plan, name: str, mounts: str) -> list[Word]:
    """Return the command that builds the plan's image from nothing and writes the layout.

    ``mounts`` goes before the names of its cache mounts, so that they are this build's alone.
    """
    output = f"{_LAYOUT}{FOLDER / name}"
    *words, target = plan.command(docker, DEFAULT_BUILDER, no_cache=True, output=output)
    # --no-cache alone sees no cache mount of an earlier build today, but no document says so.
    return [*words, "--set", f"{target}.args.BUILDKIT_CACHE_MOUNT_NS={mounts}", target]


def with_own_bases(plan: Plan, name: str) -> Plan:
    """Return the plan with bases, where they are made here, under names of this build alone."""
    if not plan.local:
        return plan
    return replace(plan, local=local_bases(plan.row, plan.locked, f"{_SUFFIX}-{name}"))


@contextlib.contextmanager
def workplace(client: "DockerClient", plan: Plan, *, builds: int, keep: bool) -> Iterator[None]:
    """Hold an empty ``FOLDER`` for the layouts, and empty it at the end.

    What a killed run left behind, the next one removes. One run of a checkout at a time.
    """
    make_own(YARD)
    make_own(FOLDER)
    with locked(FOLDER, waiting="another run reproduces an image here; waiting for it"):
        empty_own(FOLDER)
        _check_disk(client, wheel_bytes(plan), builds)
        try:
            yield
        finally:
            if keep:
                say(f"kept in {FOLDER}, until the next ./run reproduce or ./run clean")
            else:
                empty_own(FOLDER)


def _check_disk(client: "DockerClient", wheels: int, builds: int) -> None:
    needed: dict[int, tuple[Path, int]] = {}
    engine = Path(str(client.info().get("DockerRootDir", "")))
    # The builder forgets one build before the next.
    for folder, size in (
        (engine, wheels * BUILDER_PER_WHEEL_BYTE),
        (FOLDER, wheels * LAYOUT_PER_WHEEL_BYTE * builds),
    ):
        if folder.is_dir():  # the engine may be on another machine
            before = needed.get(folder.stat().st_dev, (folder, 0))[1]
            needed[folder.stat().st_dev] = (folder, before + size)
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise EnvironmentLacksError(
                f"this takes about {size / GIGA:.0f} GB, {folder} has {free / GIGA:.0f} GB",
                "docker system df   shows what Docker keeps; docker builder prune   frees its"
                " cache",
            )


@contextlib.contextmanager
def _forgotten(client: "DockerClient", docker: Path, plan: Plan, mounts: str) -> Iterator[None]:
    """Remove at the end what a build leaves in the engine: its bases, and its cache.

    The cache of a build without cache is of no use, and would push out that of other builds. What
    is removed is what is new; a build that runs beside this one may lose a part of its own.
    """
    from docker.errors import APIError

    before = _records(docker)
    try:
        yield
    finally:
        for base in plan.local:
            with contextlib.suppress(APIError, OSError):
                client.images.remove(base.image)
        with contextlib.suppress(CommandError):  # what went wrong before says more
            _forget_new(docker, before, mounts)


def _forget_new(docker: Path, before: Container[str], mounts: str) -> None:
    # A build that was broken off holds its records for a moment longer.
    for seconds in (0, 0.5, 1, 2):
        time.sleep(seconds)
        new = {key: text for key, text in _records(docker).items() if key not in before}
        # A cache mount that is another build's holds its packages.
        mine = [key for key, text in new.items() if mounts in text or not _is_mount(text)]
        if not mine:
            return
        prune: list[Word] = [docker, "buildx", "--builder", DEFAULT_BUILDER, "prune", "--force"]
        # Without --all those stay that share their lower layers with an image.
        output_of([*prune, "--all", "--filter", f"id=^({'|'.join(mine)})$"])


def _records(docker: Path) -> dict[str, str]:
    """Return the records of the builder's cache by their ids."""
    listed = output_of([docker, "buildx", "--builder", DEFAULT_BUILDER, "du", "--verbose"])
    records = re.split(r"^ID:\s+", listed, flags=re.MULTILINE)[1:]
    return {record.split(maxsplit=1)[0]: record for record in records}


def _is_mount(record: str) -> bool:
    return re.search(r"^Type:\s+exec\.cachemount$", record, re.MULTILINE) is not None
