"""Write images as OCI layouts: from a build without cache, or exported from Docker.

A build from scratch uses no build cache and no cache mount, and builds its local bases again under
temporary names. All other inputs have a hash in ``versions.lock``.
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
from trtyard.system.folders import empty_own, held_folder, make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, ROOT, YARD

if TYPE_CHECKING:
    from docker import DockerClient

FOLDER = YARD / "reproduce"
NAMES = ("first", "second")
MOUNTS = "trtyard-reproduce"  # prefix of the names of a build's cache mounts
# Disk space of a build, in the builder and as a layout, for each byte of wheels. Measured for row
# rtx-1.7: 12 GB and 5.5 GB for 3.06 GB of wheels.
BUILDER_PER_WHEEL_BYTE = 4
LAYOUT_PER_WHEEL_BYTE = 2
# Layers as uncompressed tars: fast to write and to read file by file.
_LAYOUT = "type=oci,tar=false,compression=uncompressed,force-compression=true,dest="
# Names of bases differ between checkouts that use the same Docker.
_SUFFIX = f"-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image and how it was built."""

    name: str  # one of NAMES, or the image's own
    image: Image
    seconds: float
    bases: tuple[str | None, ...] = ()  # ids of its local bases, in the order of base.STAGES


def from_nothing(
    client: "DockerClient", docker: Path, plan: Plan, name: str, *, like: bool = False
) -> Built:
    """Build the plan's bases and image without cache, and return the image.

    With ``like``, use the plan's existing bases if the distribution has newer packages now. Then
    only the build itself can cause a difference.
    """
    say(f"building {plan.row.name}, {plan.stage}, from scratch: {name}")
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
    """Return the ids of the plan's local bases, None for one that does not exist."""
    return tuple(image_id(client, base.image) for base in plan.local)


def moved_on(client: "DockerClient", plan: Plan, own: Plan) -> bool:
    """Return whether the distribution's package versions differ from those in the plan's bases."""
    for before, now in zip(plan.local, own.local, strict=True):
        if image_id(client, before.image) is None:
            continue
        old, new = (_other_versions(client, base.image) for base in (before, now))
        if old != new:
            changed = ", ".join(sorted({name for name, *_ in old ^ new}))
            say(f"the apt sources have newer versions than {before.image} of {changed};")
            say("using the existing base")
            return True
    return False


def _other_versions(client: "DockerClient", image: str) -> set[tuple[str, ...]]:
    """Return a base's packages that differ from the lock: name, locked and installed version."""
    show_facts = {"entrypoint": "cat", "command": [str(BASE_FACTS)]}
    limits = {"mem_limit": "256m", "pids_limit": 16}
    text = client.containers.run(image, **show_facts, **limits, network_mode="none", remove=True)
    return {tuple(one) for one in json.loads(text)["other_versions"]}


def from_engine(client: "DockerClient", docker: Path, name: str, other: Built) -> Built:
    """Export an image from Docker; return ``other``'s layout if both have the same digest.

    The export builds a Dockerfile of one FROM line, which keeps the configuration.
    """
    started = time.monotonic()
    facts = client.images.get(name).attrs
    # The id is the configuration's digest in the classic image store, the manifest's in containerd.
    noted = (facts.get("Descriptor") or {}).get("annotations") or {}
    if other.image.digest in (facts["Id"], noted.get("config.digest")):
        image = other.image
    else:
        say(f"exporting {name}: its digest differs")
        context, folder = FOLDER / "context", FOLDER / NAMES[0]
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {name}\n", encoding="utf-8")
        image = layout_of(plain_command(docker, context, folder), folder)
    if list(image.layers) != facts["RootFS"]["Layers"]:
        raise IntegrityError(f"{name}: the exported layers are not those that Docker lists")
    return Built(name=name, image=image, seconds=time.monotonic() - started)


def layout_of(
    command: Sequence[Word], folder: Path, variables: Mapping[str, str] | None = None
) -> Image:
    """Run a build that writes an OCI layout into ``folder``; return the image."""
    try:
        check(command, cwd=ROOT, env={**os.environ, **(variables or {})})
    except CommandError as error:
        raise explained(error) from None
    return read_image(folder)


def plain_command(docker: Path, context: Path, folder: Path) -> list[Word]:
    """Return the command that builds the Dockerfile in ``context`` and writes the layout."""
    command: list[Word] = [docker, "buildx", "build", "--builder", DEFAULT_BUILDER, "--no-cache"]
    return [*command, "--provenance=false", "--output", output_to(folder), context]


def output_to(folder: Path) -> str:
    """Return the option value that writes a layout into ``folder``.

    The path is relative to ROOT, where the command runs: a comma in it would separate values.
    """
    return f"{_LAYOUT}{os.path.relpath(folder, ROOT)}"


def build_command(docker: Path, plan: Plan, name: str, mounts: str) -> list[Word]:
    """Return the command that builds the plan's image from scratch and writes the layout.

    ``mounts`` is the prefix of its cache mounts' names; no other build shares them.
    """
    output = output_to(FOLDER / name)
    *words, target = plan.command(docker, DEFAULT_BUILDER, no_cache=True, output=output)
    # --no-cache also ignores earlier cache mounts today, but that is not documented.
    return [*words, "--set", f"{target}.args.BUILDKIT_CACHE_MOUNT_NS={mounts}", target]


def with_own_bases(plan: Plan, name: str) -> Plan:
    """Return the plan with its local bases, if any, renamed for this build only."""
    if not plan.local:
        return plan
    return replace(plan, local=local_bases(plan.row, plan.locked, f"{_SUFFIX}-{name}"))


@contextlib.contextmanager
def workplace(client: "DockerClient", plan: Plan, *, builds: int, keep: bool) -> Iterator[None]:
    """Lock and empty ``FOLDER`` for the layouts, and empty it again at the end.

    It also removes what a killed run left. Only one run per checkout can hold the folder.
    """
    make_own(YARD)
    make_own(FOLDER)
    with held_folder(FOLDER, waiting="waiting for another ./run reproduce in this checkout"):
        empty_own(FOLDER)
        _check_disk(client, wheel_bytes(plan), builds)
        try:
            yield
        finally:
            if keep:
                say(f"kept in {FOLDER} until the next ./run reproduce or ./run clean")
            else:
                empty_own(FOLDER)


def _check_disk(client: "DockerClient", wheels: int, builds: int) -> None:
    needed: dict[int, tuple[Path, int]] = {}
    engine = Path(str(client.info().get("DockerRootDir", "")))
    # The builder's cache is removed after each build, so it counts once.
    for folder, size in (
        (engine, wheels * BUILDER_PER_WHEEL_BYTE),
        (FOLDER, wheels * LAYOUT_PER_WHEEL_BYTE * builds),
    ):
        if folder.is_dir():  # Docker may run on another machine
            before = needed.get(folder.stat().st_dev, (folder, 0))[1]
            needed[folder.stat().st_dev] = (folder, before + size)
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise EnvironmentLacksError(
                f"not enough disk space: {folder} needs about {size / GIGA:.0f} GB and has"
                f" {free / GIGA:.0f} GB free",
                "show Docker's disk usage: docker system df; free its build cache:"
                " docker builder prune --all",
            )


@contextlib.contextmanager
def _forgotten(client: "DockerClient", docker: Path, plan: Plan, mounts: str) -> Iterator[None]:
    """Remove the build's bases and cache from Docker at the end.

    The cache of a build without cache is useless and would push out other builds' cache. New cache
    records are removed; a build that runs at the same time may lose some of its own.
    """
    from docker.errors import APIError

    before = _records(docker)
    try:
        yield
    finally:
        for base in plan.local:
            with contextlib.suppress(APIError, OSError):
                client.images.remove(base.image)
        with contextlib.suppress(CommandError):  # keep the build's own error
            _forget_new(docker, before, mounts)


def _forget_new(docker: Path, before: Container[str], mounts: str) -> None:
    # An interrupted build keeps its records in use for a moment.
    for seconds in (0, 0.5, 1, 2):
        time.sleep(seconds)
        new = {key: text for key, text in _records(docker).items() if key not in before}
        # Keep other builds' cache mounts: they contain downloaded packages.
        mine = [key for key, text in new.items() if mounts in text or not _is_mount(text)]
        if not mine:
            return
        prune: list[Word] = [docker, "buildx", "--builder", DEFAULT_BUILDER, "prune", "--force"]
        # Without --all, records that share layers with an image stay.
        output_of([*prune, "--all", "--filter", f"id=^({'|'.join(mine)})$"])


def _records(docker: Path) -> dict[str, str]:
    """Return the text of each record of the builder's cache, by id."""
    listed = output_of([docker, "buildx", "--builder", DEFAULT_BUILDER, "du", "--verbose"])
    records = re.split(r"^ID:\s+", listed, flags=re.MULTILINE)[1:]
    return {record.split(maxsplit=1)[0]: record for record in records}


def _is_mount(record: str) -> bool:
    return re.search(r"^Type:\s+exec\.cachemount$", record, re.MULTILINE) is not None
