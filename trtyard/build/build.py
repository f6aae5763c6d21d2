"""Builds a row's image with buildx bake from the rendered files.

The image's tag is a hash of everything that goes into it: the rendered files, the step scripts, the
plugins, the pipeline, and locally made base images. So if an image with this tag exists, it does
not need to be built again.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.build.bake import (
    DEFAULT_BUILDER,
    USUAL,
    VARIABLES,
    BaseKind,
    Options,
    Plan,
    bake_command,
)
from trtyard.build.buildkit import explained
from trtyard.build.identity import Expected, note_id, problem_of
from trtyard.build.local_base import base_problem, have_bases, local_bases, make_bases, why_not_here
from trtyard.build.store import DEBS, check_store, confirm_pins, have_debs, have_vendor_files
from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.fetching.mirrors import Mirrors, read_mirrors
from trtyard.fetching.sources import export_source, fetch_source, sources_of
from trtyard.lock.file import (
    Artifact,
    Deb,
    Lock,
    LockedRow,
    read_lock,
    refuse_unresolved,
    requirements_text,
)
from trtyard.lock.patches import check_patches
from trtyard.matrix.reader import Matrix, read_matrix
from trtyard.matrix.row import Row
from trtyard.registry.transfer import NotPublishedError, Registry, pull_image
from trtyard.render.dockerfiles import (
    CONTENT_LABEL,
    Stage,
    check_rendered,
    context_key,
    image_wheels,
    layers_of,
    render,
    repository_of,
    stages_of,
)
from trtyard.render.resolving import resolved
from trtyard.system.docker_engine import (
    connect,
    context_variables,
    docker_command,
    image_id,
    registry_problem,
    require_builder,
)
from trtyard.system.folders import held_folder, make_own
from trtyard.system.processes import CommandError, Word, check, output_of, quoted
from trtyard.system.terminal import say, show
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE, ROOT, YARD

if TYPE_CHECKING:
    from docker import DockerClient

ALL = "all"
TITLE_LABEL = "org.opencontainers.image.title"
LAST_STEP = "COPY /out/ /"  # last step of the Dockerfile's images, as BuildKit records it
# Bytes that a first build needs for each byte of its wheels: package cache, layer, compressed copy
# of the layer, unpacked image. Measured for row rtx-1.7: 20 GB for 3.06 GB of wheels.
DISK_PER_WHEEL_BYTE = 7


def build(row_name: str, *, stage: str = "final", options: Options = USUAL) -> str:
    """Build the row's image if it does not exist; return its name, see ``build_all``."""
    return build_all([row_name], stages=[stage], options=options)[0]


def build_all(
    row_names: Sequence[str], *, stages: Sequence[str] = ("final",), options: Options = USUAL
) -> list[str]:
    """Build the rows' missing images with one bake command; return the names of all images.

    ``all`` as the only row means every row without unresolved entries. Raises
    ``EnvironmentLacksError`` if Docker, buildx, disk space or the network is missing,
    ``IntegrityError`` if a file does not match the lock.
    """
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    rows = _rows(matrix, lock, row_names)
    if not options.locked and not options.dry_run:
        lock = resolved(rows, lock)
    check_rendered(render(matrix, lock))
    wanted = [(row, checked_stage(row, stage)) for row in rows for stage in stages]
    for row in rows:
        check_patches(row, lock.row(row.name))
        refuse_unresolved(lock.row(row.name))
        if options.store:
            check_store(row, lock.row(row.name), Path(options.store).resolve())
    options = replace(options, base=base_with(options.store, options.base))
    client, docker = connect(), docker_command()
    if options.builder in ("", DEFAULT_BUILDER):
        require_builder(client.version())
    results = [
        _existing_or_planned(client, docker, row, lock.row(row.name), stage, options)
        for row, stage in wanted
    ]
    plans = [one for one in results if isinstance(one, Plan)]
    if plans:
        _build(client, docker, plans, options)
    return [one.image if isinstance(one, Plan) else one for one in results]


def base_with(store: str, base: str) -> str:
    """Return the value of ``--base`` to use: a store has packages for local bases only."""
    if store and base == "published":
        raise UsageError(
            "--base published needs a registry, which --store does not use", "omit one of them"
        )
    return "local" if store else base


def rows_named(matrix: Matrix, names: Sequence[str]) -> list[Row]:
    """Return the rows with these names or aliases, without duplicates."""
    return list({matrix.row(name).name: matrix.row(name) for name in names}.values())


def _rows(matrix: Matrix, lock: Lock, names: Sequence[str]) -> list[Row]:
    if list(names) != [ALL]:
        return rows_named(matrix, names)
    for name, locked in lock.rows.items():
        if locked.unresolved:
            say(f"row {name} is skipped: it has {len(locked.unresolved)} unresolved entries")
    return [row for row in matrix.rows.values() if not lock.row(row.name).unresolved]


def _existing_or_planned(
    client: "DockerClient",
    docker: Path,
    row: Row,
    locked: LockedRow,
    stage: Stage,
    options: Options,
) -> Plan | str:
    """Return the image's name if it exists or was pulled, else the plan of its build.

    In a dry run the name is empty if it depends on base images that do not exist yet.
    """
    base = options.base
    if base == "auto" and not options.no_cache:
        found = built_image(client, row, locked, stage)
        if found is not None:
            say(f"{found} is up to date")
            if not options.dry_run:
                note_id(client, found)
            return found
        for problem in image_problems(client, row, locked, stage):
            say(f"{problem}; this image is not used")
        found = pull_offered(client, docker, row, locked, stage, dry_run=options.dry_run)
        if found is not None:
            return found
    kind = base_kind(client, row, locked, base)
    if kind == "local":
        make_bases(row, locked, store=options.store, dry_run=options.dry_run)
        if options.dry_run and not have_bases(client, row, locked):
            say("would then build the row's image, whose name depends on these base images")
            return ""
    plan = with_folders(
        plan_of(client, row, locked, kind, stage), options.store, dry_run=options.dry_run
    )
    if _is_there(client, plan) and not options.no_cache:
        say(f"{plan.image} is up to date")
        return plan.image
    return plan


def with_folders(plan: Plan, store: str = "", *, dry_run: bool = False) -> Plan:
    """Return the plan with the local folders that the build takes files from."""
    row, mirrors = plan.row, read_mirrors()
    if store:
        plan = replace(plan, store=Path(store).resolve())
    if sources_of(row) and (plan.store or mirrors.git):
        plan = replace(plan, sources=_sources(row, plan.store, mirrors, dry_run=dry_run))
    vendors = [one for one in plan.locked.wheels_for(row.python) if one.is_vendors]
    if vendors and mirrors.vendor and not plan.store:  # a build step cannot always reach it
        plan = replace(plan, vendor=YARD / "vendor" / row.name)
        if not dry_run:
            make_own(YARD)
            have_vendor_files(vendors, YARD / "vendor" / row.name)
    if row.debs.unpacked and (plan.store or plan.base == "local"):
        plan = replace(plan, debs=_unpacked(row, plan.locked, plan.store, dry_run=dry_run))
    return plan


def _sources(row: Row, store: Path | None, mirrors: Mirrors, *, dry_run: bool) -> Path:
    """Check out the row's source repositories from the store or a mirror; return their folder.

    Without a store and a mirror, BuildKit fetches them itself.
    """
    folder = YARD / "checkouts" / row.name
    if dry_run:
        return folder
    make_own(YARD)
    make_own(folder)
    with _in_use(folder):
        for source in sources_of(row):
            if store is None:
                fetch_source(source, YARD, mirrors)
            export_source(source, store or YARD, folder)
    return folder


def _unpacked(row: Row, locked: LockedRow, store: Path | None, *, dry_run: bool) -> Path:
    """Return a folder with the packages that are only unpacked, as a local base has no apt sources.

    Downloads them unless there is a store.
    """
    own = store or YARD / "store"
    if dry_run or store:
        return own / DEBS
    make_own(YARD)
    return have_debs(row, locked, locked.debs_of("unpacked"), own)


def _in_use(folder: Path) -> AbstractContextManager[int]:
    return held_folder(folder, waiting=f"waiting for another run that uses {folder}")


def _build(client: "DockerClient", docker: Path, plans: list[Plan], options: Options) -> None:
    builder = options.builder or DEFAULT_BUILDER
    for plan in plans:
        _check_builder(docker, builder, plan)
    command = bake_command(
        plans,
        docker,
        builder,
        no_cache=options.no_cache,
        cache_from=options.cache_from,
        cache_to=options.cache_to,
    )
    doing = "would build" if options.dry_run else "building"
    for plan in plans:
        say(f"{doing} {plan.image} from {_base_description(plan)}")
        if plan.row.terms:
            say(f"  the vendor's files in it are subject to {plan.row.terms}")
    if options.dry_run:
        variables = [f"{key}={it}" for key, it in {**VARIABLES, **context_variables()}.items()]
        show(f"{quoted(variables)} {quoted(command)}")
        return
    check_disk(client, plans)
    bases = {one.image: image_id(client, one.image) for plan in plans for one in plan.local}
    with ExitStack() as stack:
        # Keep other runs from replacing the folders while the builder reads them.
        for folder in sorted({plan.sources for plan in plans if plan.sources is not None}):
            stack.enter_context(_in_use(folder))
        bake(command)
    if {name: image_id(client, name) for name in bases} != bases:
        raise IntegrityError(
            f"{', '.join(bases)} was replaced by another run during the build",
            "run the command again",
        )
    for plan in plans:
        _report_image(client, plan)
        confirm_pins(plan.row)


def checked_stage(row: Row, stage: str) -> Stage:
    """Return the stage with that name; ``UsageError`` if the row has no such image."""
    for known in stages_of(row):
        if stage == known:
            return known
    raise UsageError(
        f"--target {stage!r} is unknown: row {row.name} has {', '.join(stages_of(row))}"
    )


def plan_of(
    client: "DockerClient", row: Row, locked: LockedRow, kind: BaseKind, stage: Stage = "final"
) -> Plan:
    """Return the plan with that kind of base; the image's name depends on local bases."""
    local = local_bases(row, locked) if kind == "local" else ()
    names = [f"{base.stage} {image_id(client, base.image)}" for base in local]
    image = f"{repository_of(row.name, stage)}:{context_key(row, names)}"
    return Plan(row=row, locked=locked, base=kind, local=local, image=image, stage=stage)


def built_image(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage = "final"
) -> str | None:
    """Return the name of the row's up-to-date image, or None if the engine does not have it.

    A different image with that name does not count, see ``image_problems``.
    """
    plans = _plans_here(client, row, locked, stage)
    return next((plan.image for plan in plans if _problem(client, plan) is None), None)


def image_problems(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage = "final"
) -> list[str]:
    """Return the reasons why images with the row's names are not the row's images."""
    bases = local_bases(row, locked) if row.base.contents == "minimal" else ()
    problems = [base_problem(client, base) for base in bases]
    problems += [_problem(client, plan) for plan in _plans_here(client, row, locked, stage)]
    return [problem for problem in problems if problem is not None]


def needed_image(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage, *, instead: str = ""
) -> str:
    """Return the name of the row's up-to-date image.

    Raises ``IntegrityError`` if a different image has the name of the row's image or base,
    ``EnvironmentLacksError`` if the image is not built; ``instead`` is added to its hint.
    """
    name = built_image(client, row, locked, stage)
    if name is not None:
        return name
    command = f"./run build --trt {row.name} --target {stage}"
    if problems := image_problems(client, row, locked, stage):
        raise IntegrityError("; ".join(problems), f"build it again: {command}")
    raise EnvironmentLacksError(
        f"the {stage} image of row {row.name} is not built for this checkout", command + instead
    )


def _plans_here(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage
) -> Iterator[Plan]:
    """Yield the plans for which the engine has an image with the planned name."""
    kinds: tuple[BaseKind, ...] = ("published",)
    if have_bases(client, row, locked):
        kinds = ("local", "published")
    for kind in kinds:
        plan = plan_of(client, row, locked, kind, stage)
        if image_id(client, plan.image):
            yield plan


def _problem(client: "DockerClient", plan: Plan) -> str | None:
    """Return why the image with the plan's name is not the planned one, or None if it is."""
    below: list[str] = []
    if plan.local:
        base = client.images.get(plan.local[0].image)
        below = list(base.attrs["RootFS"].get("Layers") or ())
    labels = content_labels(plan.row, plan.locked, plan.stage)
    expected = Expected(labels=labels, below=below, last_step=LAST_STEP)
    return problem_of(client, plan.image, expected)


def pull_offered(
    client: "DockerClient",
    docker: Path,
    row: Row,
    locked: LockedRow,
    stage: Stage = "final",
    *,
    dry_run: bool = False,
) -> str | None:
    """Pull the row's image if a registry is configured and has it; return its local name, or None.

    Raises ``IntegrityError`` if the registry's image is not the row's.
    """
    registry = Registry.configured()
    if registry is None:
        return None
    remote, local = published_name(registry, row, stage), local_name(row, stage)
    if dry_run:
        say(f"would first try to pull {remote}")
        return None
    say(f"trying to pull {remote}")
    try:
        pull_image(client, docker, remote, local, content_labels(row, locked, stage))
        note_id(client, local)
        return local
    except NotPublishedError as error:
        say(error.message)
    except EnvironmentLacksError as error:
        say(f"not pulled: {error}")
    return None


def local_name(row: Row, stage: Stage = "final") -> str:
    """Return the local name of the row's image with the published base."""
    return f"{repository_of(row.name, stage)}:{context_key(row, [])}"


def published_name(registry: Registry, row: Row, stage: Stage = "final") -> str:
    """Return the name of the row's image in a registry, which depends on this tree alone."""
    name = repository_of(row.name, stage).removeprefix("trtyard/")
    return registry.image(name, context_key(row, []))


def content_labels(row: Row, locked: LockedRow, stage: Stage = "final") -> dict[str, str]:
    """Return the labels of an image that is built from this tree."""
    return {
        TITLE_LABEL: f"trtyard {row.name}" + (" runtime" if stage == "runtime" else ""),
        CONTENT_LABEL: context_key(row, []),
        "trtyard.row": row.name,
        "trtyard.lock": locked.matrix_sha256,
    }


def _is_there(client: "DockerClient", plan: Plan) -> bool:
    """Tell whether the engine has the planned image; a pulled one may have another local base."""
    if not image_id(client, plan.image) or _problem(client, plan) is not None:
        return False
    base = str(client.images.get(plan.image).labels.get("trtyard.base", ""))
    return plan.base == "local" or not base.startswith("local")


def base_kind(client: "DockerClient", row: Row, locked: LockedRow, base: str) -> BaseKind:
    """Return the kind of base to use for ``--base``; ``EnvironmentLacksError`` if there is none."""
    match base:
        case "local" | "published":
            return base
        case "auto":
            pass
        case _:
            raise UsageError(f"--base must be auto, local or published, not {base!r}")
    if have_bases(client, row, locked):
        return "local"
    problem = registry_problem(client, read_mirrors().image(locked.base.reference))
    if problem is None:
        return "published"
    say(f"the published base image is not available: {problem}")
    obstacle = why_not_here(row)
    if obstacle is None:
        return "local"
    raise _no_base(obstacle)


def base_obstacle(client: "DockerClient", row: Row, locked: LockedRow, store: str = "") -> str:
    """Return why a build has no base image, or "". Asks the registry only if necessary.

    With a ``store``, missing base images are made from its packages.
    """
    if have_bases(client, row, locked):
        return ""
    obstacle = why_not_here(row, store=bool(store))
    if obstacle is None:
        return ""
    if store:
        return f"there is no base image, and none can be made: {obstacle}"
    reference = read_mirrors().image(locked.base.reference)
    return _no_base(obstacle).message if registry_problem(client, reference) else ""


def _no_base(obstacle: str) -> EnvironmentLacksError:
    return EnvironmentLacksError(
        f"no base image: it cannot be pulled, and none can be made on this machine: {obstacle}",
        "sudo apt-get install mmdebstrap, then: ./run base   (see docs/images.md)",
    )


def _check_builder(docker: Path, builder: str, plan: Plan) -> None:
    text = output_of([docker, "buildx", "inspect", builder])
    match = re.search(r"^Driver:\s+(\S+)", text, flags=re.MULTILINE)
    driver = match[1] if match else "unknown"
    if plan.local and driver != "docker":
        raise EnvironmentLacksError(
            f"builder {builder} ({driver}) cannot use the locally made base image, which is only in"
            " this engine",
            "omit --builder, or use the published base: --base published",
        )


def check_disk(client: "DockerClient", plans: Sequence[Plan]) -> None:
    """Raise ``EnvironmentLacksError`` if the disk is too small for the first build of an image.

    Later builds of an image share most layers and are not checked.
    """
    folder = Path(str(client.info().get("DockerRootDir", "")))
    if not folder.is_dir():
        return
    first = [one for one in plans if not any(_tags_of(client, one.row.name, one.stage))]
    needed = DISK_PER_WHEEL_BYTE * bytes_of(_new_wheels(first, _layers_here(client)))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentLacksError(
            f"a first build needs about {needed / GIGA:.0f} GB, {folder} has {free / GIGA:.0f} GB",
            "docker system df   shows what Docker uses;"
            " docker builder prune --all   frees its cache",
        )


def _layers_here(client: "DockerClient") -> Iterator[str]:
    """Yield the keys of the layers of all images here that were built from this lock."""
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    for row in matrix.rows.values():
        locked = lock.row(row.name)
        for stage in stages_of(row):
            images = client.api.images(repository_of(row.name, stage))
            labels = [(one.get("Labels") or {}).get("trtyard.lock") for one in images]
            if locked.matrix_sha256 in labels:
                yield from _layers(row, locked, stage)


def _layers(row: Row, locked: LockedRow, stage: Stage) -> dict[str, tuple[Artifact, ...]]:
    """Return the wheels of each layer, keyed by the text of it and the layers below it.

    Rows with the same key share the layer.
    """
    layers = layers_of(row, image_wheels(row, locked, stage))
    texts = accumulate(requirements_text(layer.wheels) + "\n" for layer in layers)
    return {text: layer.wheels for text, layer in zip(texts, layers, strict=True)}


def _new_wheels(plans: Iterable[Plan], here: Iterable[str]) -> list[Artifact]:
    """Return the wheels that the builds install, without those in layers that exist."""
    known, wheels = set(here), list[Artifact]()
    for plan in plans:
        layers = _layers(plan.row, plan.locked, plan.stage)
        shared = {wheel for text in known & layers.keys() for wheel in layers[text]}
        wheels += [one for one in wheels_of(plan.row, plan.locked, plan.stage) if one not in shared]
        known |= layers.keys()
    return wheels


def wheels_of(row: Row, locked: LockedRow, stage: Stage) -> tuple[Artifact, ...]:
    """Return the wheels that an image's build installs, including those only for compiling."""
    wheels = locked.wheels_for(row.python)
    if stage == "final":
        return wheels
    taken = {*row.image.runtime, *row.image.compile_with}
    return tuple(wheel for wheel in wheels if wheel.name in taken)


def wheel_bytes(plan: Plan) -> int:
    """Return the size of the image's wheels in bytes."""
    return bytes_of(wheels_of(plan.row, plan.locked, plan.stage))


def bytes_of(files: Iterable[Artifact | Deb]) -> int:
    """Return the total size of these files in bytes."""
    return sum(file.size for file in files)


def bake(command: list[Word]) -> None:
    """Run a bake command; on failure raise an error with BuildKit's cause and a hint."""
    try:
        check(command, cwd=ROOT, env={**os.environ, **VARIABLES})
    except CommandError as error:
        raise explained(error) from None


def _report_image(client: "DockerClient", plan: Plan) -> None:
    note_id(client, plan.image)
    unpacked = sum(layer["Size"] for layer in client.images.get(plan.image).history())
    labels = client.images.get(plan.image).labels
    say(f"built {plan.image}, {unpacked / GIGA:.1f} GB unpacked, from:")
    say(f"  {labels.get('trtyard.base', 'unknown')}")
    older = [name for name in _tags_of(client, plan.row.name, plan.stage) if name != plan.image]
    if older:
        say(f"to remove older images of the row: docker image rm {' '.join(older)}")


def _tags_of(client: "DockerClient", row: str, stage: Stage) -> Iterator[str]:
    # Not client.images: it inspects each image, and fails if one is removed in the meantime.
    repository = repository_of(row, stage)
    for image in client.api.images(repository):
        yield from (tag for tag in image["RepoTags"] or () if tag.startswith(f"{repository}:"))


def _base_description(plan: Plan) -> str:
    if plan.base == "local":
        return "a base made on this machine: " + ", ".join(base.image for base in plan.local)
    return f"the published base {plan.locked.base.reference}"
