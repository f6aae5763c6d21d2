"""Building a row's image with buildx bake, from the rendered files alone.

The image's tag is the hash of everything that goes in: the rendered files, the step scripts, the
plugins, the pipeline, and the base images where those were made here. So an image that is there
under its tag is the one that a build would give.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trtyard.base import LocalBase, have_bases, local_bases, make_bases, why_not_here
from trtyard.buildkit import explained
from trtyard.command import (
    CommandError,
    Word,
    check,
    output_of,
    quoted,
)
from trtyard.console import say, show
from trtyard.engine import connect, docker_command, image_id, registry_problem
from trtyard.lock import LockedRow, read_lock, refuse_unresolved
from trtyard.matrix import read_matrix
from trtyard.pipeline.errors import EnvironmentLacksError, UsageError
from trtyard.registry import NotPublishedError, Registry, pull_image
from trtyard.render import (
    BAKE_FILE,
    CA_BUNDLE,
    Stage,
    check_rendered,
    context_files,
    render,
    repository_of,
    stages_of,
    target_of,
)
from trtyard.row import Row
from trtyard.store import check_store
from trtyard.tools import GIGA, LOCK_FILE, MATRIX_FILE, ROOT

if TYPE_CHECKING:
    from docker import DockerClient

BaseKind = Literal["local", "published"]
CONTENT_LABEL = "trtyard.content"  # of which tree the image is, whatever its base
DEFAULT_BUILDER = "default"  # buildx's name for the engine itself
# Bytes that a first build takes for each byte of wheel: the package cache, the layer, its
# compressed copy and the unpacked image. Measured for row rtx-1.7: 20 GB from 3.06 GB.
DISK_PER_WHEEL_BYTE = 7
# Half as long to compress and to unpack as the default gzip, for the same size.
_TO_ENGINE = "type=image,compression=zstd,compression-level=1"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build would do."""

    row: Row
    locked: LockedRow
    base: BaseKind
    local: tuple[LocalBase, ...]  # the bases to take instead of the published one
    image: str
    store: Path | None = None  # the folder to take all packages from, without a network
    stage: Stage = "final"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the bake command."""
        # The one file outside the repository that bake reads is the CA bundle, named on its
        # command line; without this it would ask whether it may.
        return {"TAG": self.image.partition(":")[2], "BUILDX_BAKE_ENTITLEMENTS_FS": "0"}

    @property
    def labels(self) -> dict[str, str]:
        """What the bake command adds to the labels of the Dockerfile."""
        return {CONTENT_LABEL: context_key(self.row, [])}

    def command(
        self, docker: Path, builder: str, *, no_cache: bool = False, output: str = ""
    ) -> list[Word]:
        """Return the bake command, to be run in the repository's root.

        ``output`` is BuildKit's; without one the image goes to the engine.
        """
        target = target_of(self.row.name, self.stage)
        command: list[Word] = [docker, "buildx", "bake", "--file", BAKE_FILE, "--builder", builder]
        settings = [f"contexts.{base.stage}=docker-image://{base.image}" for base in self.local]
        bundle = os.environ.get("SSL_CERT_FILE") or CA_BUNDLE
        if Path(bundle).is_file():
            settings.append(f"secrets=id=ca,src={bundle}")
        settings += [f"labels.{key}={value}" for key, value in self.labels.items()]
        if self.store is not None:
            settings += [f"contexts.store={self.store}", "network=none"]
        if output or builder == DEFAULT_BUILDER:
            settings.append(f"output={output or _TO_ENGINE}")
        else:
            command.append("--load")
        for setting in settings:
            command += ["--set", f"{target}.{setting}"]
        if no_cache:
            command.append("--no-cache")
        return [*command, target]


def build(
    row_name: str,
    *,
    base: str = "auto",
    builder: str = "",
    no_cache: bool = False,
    store: str = "",
    stage: str = "final",
    dry_run: bool = False,
) -> str:
    """Build the row's image if it is not there; return its name.

    ``EnvironmentLacksError`` where Docker, buildx, disk or network are missing, ``IntegrityError``
    where something is not what the lock says.
    """
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    row = matrix.row(row_name)
    locked = lock.row(row.name)
    check_rendered(render(matrix, lock))
    wanted = checked_stage(row, stage)
    refuse_unresolved(locked)
    if store:
        check_store(row, locked, Path(store).resolve())
        if base == "published":
            raise UsageError("--store builds without a registry: --base published cannot be had")
        base = "local"
    client, docker = connect(), docker_command()
    if base == "auto" and not no_cache and wanted == "final":  # what a registry has
        found = built_image(client, row, locked)
        if found is not None:
            say(f"{found} is there already; nothing that goes into it has changed")
            return found
        found = pull_offered(client, docker, row, locked, dry_run=dry_run)
        if found is not None:
            return found
    kind = _base_kind(client, row, locked, base)
    if kind == "local":
        make_bases(row, locked, store=store, dry_run=dry_run)
        if dry_run and not have_bases(client, row, locked):
            say("the image's name follows from theirs; that would be built next")
            return ""
    plan = plan_of(client, row, locked, kind, wanted)
    if store:
        plan = replace(plan, store=Path(store).resolve())
    builder = builder or DEFAULT_BUILDER
    _check_builder(docker, builder, plan)
    command = plan.command(docker, builder, no_cache=no_cache)
    if _is_there(client, plan) and not no_cache:
        say(f"{plan.image} is there already; nothing that goes into it has changed")
    elif dry_run:
        say(f"would build {plan.image} from {_in_words(plan)}")
        variables = [f"{key}={value}" for key, value in plan.variables.items()]
        show(f"{quoted(variables)} {quoted(command)}")
    else:
        _check_disk(client, plan)
        say(f"building {plan.image} from {_in_words(plan)}")
        _bake(command, plan)
        _say_done(client, plan)
    return plan.image


def checked_stage(row: Row, stage: str) -> Stage:
    """Return the stage of that name; ``UsageError`` where the row has no such image."""
    for known in stages_of(row):
        if stage == known:
            return known
    raise UsageError(
        f"--target {stage!r}: the images of {row.name} are {', '.join(stages_of(row))}"
    )


def plan_of(
    client: "DockerClient", row: Row, locked: LockedRow, kind: BaseKind, stage: Stage = "final"
) -> Plan:
    """Return the plan with that kind of base; a local base that is not made yet has no name."""
    local = local_bases(row, locked) if kind == "local" else ()
    names = [f"{base.stage} {image_id(client, base.image)}" for base in local]
    image = f"{repository_of(row.name, stage)}:{context_key(row, names)}"
    return Plan(row=row, locked=locked, base=kind, local=local, image=image, stage=stage)


def built_image(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage = "final"
) -> str | None:
    """Return the name of the row's image as it would be built now, or None if it is not there."""
    kinds: tuple[BaseKind, ...] = ("published",)
    if have_bases(client, row, locked):
        kinds = ("local", "published")
    plans = (plan_of(client, row, locked, kind, stage) for kind in kinds)
    return next((plan.image for plan in plans if image_id(client, plan.image)), None)


def pull_offered(
    client: "DockerClient", docker: Path, row: Row, locked: LockedRow, *, dry_run: bool = False
) -> str | None:
    """Pull the row's image if a registry is configured and has it; return its name here, or None.

    What the registry lacks can be built; what it gives and is not right ends with
    ``IntegrityError``.
    """
    registry = Registry.configured()
    if registry is None:
        return None
    remote = published_name(registry, row)
    if dry_run:
        say(f"would first ask for {remote}")
        return None
    say(f"asking for {remote}")
    try:
        return pull_image(client, docker, remote, local_name(row), content_labels(row, locked))
    except NotPublishedError as error:
        say(error.message)
    except EnvironmentLacksError as error:
        say(f"not pulled: {error}")
    return None


def local_name(row: Row) -> str:
    """Return the name of the row's image that does not depend on anything made here."""
    return f"trtyard/{row.name}:{context_key(row, [])}"


def published_name(registry: Registry, row: Row) -> str:
    """Return the name of the row's image in a registry: anyone with this tree can tell it."""
    return registry.image(row.name, context_key(row, []))


def content_labels(row: Row, locked: LockedRow) -> dict[str, str]:
    """Return the labels that an image built from this tree has."""
    return {
        CONTENT_LABEL: context_key(row, []),
        "trtyard.row": row.name,
        "trtyard.lock": locked.matrix_sha256,
    }


def context_key(row: Row, bases: list[str], root: Path = ROOT) -> str:
    """Return 12 hex digits that change with every byte of what goes into the image."""
    digest = hashlib.sha256(f"{CONTENT_LABEL}\n".encode())
    for path in context_files(row, root):
        file = root / path
        executable = os.access(file, os.X_OK)
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{path.as_posix()} {executable} {content}\n".encode())
    for name in bases:
        digest.update(f"{name}\n".encode())
    return digest.hexdigest()[:12]


def _is_there(client: "DockerClient", plan: Plan) -> bool:
    """Tell whether the plan's image is there; a pulled one may have someone's local base."""
    if not image_id(client, plan.image):
        return False
    base = str(client.images.get(plan.image).labels.get("trtyard.base", ""))
    return plan.base == "local" or not base.startswith("local")


def _base_kind(client: "DockerClient", row: Row, locked: LockedRow, base: str) -> BaseKind:
    match base:
        case "local" | "published":
            return base
        case "auto":
            pass
        case _:
            raise UsageError(f"--base must be auto, local or published, not {base!r}")
    if have_bases(client, row, locked):
        return "local"
    problem = registry_problem(client, locked.base.reference)
    if problem is None:
        return "published"
    say(f"the published base image cannot be had: {problem}")
    obstacle = why_not_here(row)
    if obstacle is None:
        return "local"
    raise EnvironmentLacksError(
        f"no base image: the registry does not give it, and making one here needs more: {obstacle}",
        "sudo apt-get install mmdebstrap, then: ./run base   (see docs/images.md)",
    )


def _check_builder(docker: Path, builder: str, plan: Plan) -> None:
    text = output_of([docker, "buildx", "inspect", builder])
    match = re.search(r"^Driver:\s+(\S+)", text, flags=re.MULTILINE)
    driver = match[1] if match else "unknown"
    if plan.local and driver != "docker":
        raise EnvironmentLacksError(
            f"builder {builder} ({driver}) does not see this engine's own images, and the base is"
            " one of them",
            "leave out --builder, or take the published base: --base published",
        )


def _check_disk(client: "DockerClient", plan: Plan) -> None:
    """Refuse early what cannot fit; where an image of the row is there, layers are shared."""
    folder = Path(str(client.info().get("DockerRootDir", "")))
    name = repository_of(plan.row.name, plan.stage)
    if not folder.is_dir() or client.images.list(name):
        return
    needed = DISK_PER_WHEEL_BYTE * wheel_bytes(plan)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentLacksError(
            f"a first build takes about {needed / GIGA:.0f} GB, {folder} has {free / GIGA:.0f} GB",
            "docker system df   shows what Docker keeps; docker builder prune   frees its cache",
        )


def wheel_bytes(plan: Plan) -> int:
    """Return how large the wheels are that the plan's image takes, and what compiles for it."""
    wheels = plan.locked.wheels_for(plan.row.python)
    if plan.stage == "final":
        return sum(wheel.size for wheel in wheels)
    taken = {*plan.row.image.runtime, *plan.row.image.compile_with}
    return sum(wheel.size for wheel in wheels if wheel.name in taken)


def _bake(command: list[Word], plan: Plan) -> None:
    try:
        check(command, cwd=ROOT, env={**os.environ, **plan.variables})
    except CommandError as error:
        raise explained(error) from None


def _say_done(client: "DockerClient", plan: Plan) -> None:
    unpacked = sum(layer["Size"] for layer in client.images.get(plan.image).history())
    labels = client.images.get(plan.image).labels
    say(f"{plan.image} is built, {unpacked / GIGA:.1f} GB unpacked; its base:")
    say(f"  {labels.get('trtyard.base', 'unknown')}")
    older = [name for name in _tags_of(client, plan) if name != plan.image]
    if older:
        say(f"older images of the row: docker image rm {' '.join(older)}")


def _tags_of(client: "DockerClient", plan: Plan) -> Iterator[str]:
    for image in client.images.list(repository_of(plan.row.name, plan.stage)):
        yield from image.tags


def _in_words(plan: Plan) -> str:
    if plan.base == "local":
        return "a base made on this machine: " + ", ".join(base.image for base in plan.local)
    return f"the published base {plan.locked.base.reference}"
