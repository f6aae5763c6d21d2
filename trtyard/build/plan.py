"""``./run plan``: forecasts what a build would download and build, or why it would fail.

It writes nothing and is quick: it asks the registry for a base image only if there is none and none
can be made.

Sizes come from the lock. A package cache may already hold some of the packages, so the download is
given as "up to" their size.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.build.build import (
    ALL,
    base_obstacle,
    built_image,
    bytes_of,
    check_disk,
    checked_stage,
    plan_of,
    rows_named,
    wheels_of,
)
from trtyard.build.local_base import have_bases, local_bases
from trtyard.build.store import MEGA, check_store, checked_deb, look_into, wanted_files
from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.lock.file import LockedRow, read_lock, requirements_text
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import UNRESOLVED, Row
from trtyard.render.dockerfiles import (
    Stage,
    check_rendered,
    image_wheels,
    layers_of,
    render,
    repository_of,
)
from trtyard.system.docker_engine import connect, docker_command, image_id, require_builder
from trtyard.system.terminal import show
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The forecast for the build of one image. Sizes in bytes."""

    row: str
    target: str
    image: str | None  # its name if it exists and nothing needs to be built
    base: str  # description of the base image
    packages: int  # Python packages that the image's build installs
    package_bytes: int
    debs: int
    deb_bytes: int
    own: "OwnLayers"
    in_store: int | None  # files that the store has; None without a store
    terms: str  # of the vendor's files; "" if there are none
    unresolved: tuple[str, ...]  # unresolved entries of the lock, which prevent the build
    problems: tuple[str, ...]  # other reasons why the build would fail
    engine: str  # why no Docker engine is available, or ""


@dataclass(frozen=True, kw_only=True)
class OwnLayers:
    """Download sizes of the layers that an image does not share with the default row, in bytes.

    TensorRT's own packages are counted apart: they differ in every row, and some have no published
    size.
    """

    beyond: str  # the default row
    image_bytes: int
    own_bytes: int
    tensorrt_bytes: int
    unknown: tuple[str, ...]  # packages without a published size


def own_layers(
    row: Row, locked: LockedRow, default: Row, other: LockedRow, stage: Stage
) -> OwnLayers:
    """Return the sizes of the layers that a row's image does not share with the default row's.

    A layer is shared if its list is the same, because the same list gives the same bytes.
    """
    theirs = {
        requirements_text(layer.wheels)
        for layer in layers_of(default, image_wheels(default, other, stage))
    }
    debs, their_debs = (one.debs_of("base", "runtime") for one in (locked, other))
    sizes = {"own": 0, "shared": 0, "tensorrt": 0}
    sizes["shared" if debs == their_debs else "own"] += bytes_of(debs)
    unknown = []
    for layer in layers_of(row, image_wheels(row, locked, stage)):
        kind = "own"
        if layer.name == "tensorrt":
            kind = "tensorrt"
            unknown += [one.filename for one in layer.wheels if not one.size]
        elif debs == their_debs and requirements_text(layer.wheels) in theirs:
            kind = "shared"
        sizes[kind] += bytes_of(layer.wheels)
    return OwnLayers(
        beyond=default.name,
        image_bytes=sizes["own"] + sizes["shared"],
        own_bytes=sizes["own"],
        tensorrt_bytes=sizes["tensorrt"],
        unknown=tuple(unknown),
    )


def forecasts(
    row_names: Sequence[str], *, stages: Sequence[str], store: str = ""
) -> list[Forecast]:
    """Return a forecast for each image, in the order of the names."""
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    check_rendered(render(matrix, lock))
    names = list(matrix.rows) if list(row_names) == [ALL] else row_names
    rows = rows_named(matrix, names)
    return [
        _forecast(
            row,
            lock.row(row.name),
            checked_stage(row, stage),
            store,
            own_layers(
                row,
                lock.row(row.name),
                matrix.rows[matrix.default],
                lock.row(matrix.default),
                checked_stage(row, stage),
            ),
        )
        for row in rows
        for stage in stages
    ]


def show_plan(
    row_names: Sequence[str], *, stages: Sequence[str], store: str = "", as_json: bool = False
) -> None:
    """Print the forecasts as text or JSON."""
    found = forecasts(row_names, stages=stages, store=store)
    if as_json:
        show(json.dumps({"schema": 1, "images": [asdict(one) for one in found]}, indent=2))
        return
    for one in found:
        show("\n".join(_lines(one)) + "\n")


def _forecast(row: Row, locked: LockedRow, stage: Stage, store: str, own: OwnLayers) -> Forecast:
    image, base, engine, problems = _in_engine(row, locked, stage, store)
    packages = (*wheels_of(row, locked, stage), *locked.sdists_for(row.python))
    debs = [deb for deb in locked.debs if deb.stage != "base"]
    wanted = wanted_files(row, locked) if store else []
    return Forecast(
        row=row.name,
        target=stage,
        image=image,
        base=base,
        packages=len(packages),
        package_bytes=bytes_of(packages),
        debs=len(debs),
        deb_bytes=bytes_of(debs),
        own=own,
        in_store=len(look_into(Path(store), wanted).right) if store else None,
        terms=row.terms,
        unresolved=tuple(f"{one.kind} {one.name} {one.version}" for one in locked.unresolved),
        engine=engine,
        problems=problems,
    )


def _in_engine(
    row: Row, locked: LockedRow, stage: Stage, store: str
) -> tuple[str | None, str, str, tuple[str, ...]]:
    """Return existing image or None, description of the base, why there is no engine, problems."""
    try:
        client = connect()
        docker_command()
        require_builder(client.version())
    except EnvironmentLacksError as error:
        base = f"{locked.base.image}, {locked.base.digest}"
        return None, base, error.message, _of_store(row, locked, store, bases=False)
    image = built_image(client, row, locked, stage)
    base = _base_description(client, row, locked, store)
    bases = not have_bases(client, row, locked)
    problems = _of_store(row, locked, store, bases=bases)
    if not image and not locked.unresolved:
        problems = (*_of_engine(client, row, locked, stage, store), *problems)
    return image, base, "", problems


def _of_engine(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage, store: str
) -> tuple[str, ...]:
    """Return why a build would have no base image or not enough disk space."""
    obstacle = base_obstacle(client, row, locked, store)
    if obstacle:
        return (obstacle,)
    try:
        check_disk(client, [plan_of(client, row, locked, "published", stage)])
    except EnvironmentLacksError as error:
        return (error.message,)
    return ()


def _base_description(client: "DockerClient", row: Row, locked: LockedRow, store: str) -> str:
    if have_bases(client, row, locked):
        return f"made here: {', '.join(one.image for one in local_bases(row, locked))}"
    if store:
        return f"to be made from {store}"
    if locked.base.digest == UNRESOLVED:
        return f"{locked.base.image}, digest unresolved"
    if image_id(client, locked.base.reference):
        return f"present: {locked.base.reference}"
    making = ", or to be made here" if row.base.contents == "minimal" else ""
    return f"to be pulled: {locked.base.reference}{making}"


def _of_store(row: Row, locked: LockedRow, store: str, *, bases: bool) -> tuple[str, ...]:
    """Return why a build would reject the store: its packages, and with ``bases`` also its debs."""
    if not store or locked.unresolved:
        return ()
    try:
        check_store(row, locked, Path(store).resolve())
        for deb in locked.debs if bases else ():
            checked_deb(Path(store).resolve(), deb)
    except TrtyardError as error:
        return (error.message,)
    return ()


def _lines(one: Forecast) -> list[str]:
    name = repository_of(one.row, "runtime" if one.target == "runtime" else "final")
    if one.unresolved:
        verdict = "cannot be built: unresolved in versions.lock: " + ", ".join(one.unresolved)
    elif one.engine:
        verdict = f"cannot be built here: {one.engine}"
    elif one.problems:
        verdict = f"cannot be built here: {'; '.join(one.problems)}"
    elif one.image:
        verdict = f"nothing to do: {one.image} exists"
    else:
        verdict = "to be built"
    stored = "" if one.in_store is None else f"; {one.in_store} files are in the store"
    return [
        f"{name}   {verdict}",
        f"  base       {one.base}",
        f"  packages   {one.packages} of Python, up to {one.package_bytes / GIGA:.2f} GB to"
        f" download; {one.debs} of the distribution, {one.deb_bytes / MEGA:.0f} MB{stored}",
        *_layer_lines(one),
        *([f"  terms      {one.terms}"] if one.terms else []),
    ]


def _layer_lines(one: Forecast) -> list[str]:
    own = one.own
    if one.row == own.beyond:
        return []
    lines = [
        f"  layers     {own.own_bytes / GIGA:.2f} GB of {own.image_bytes / GIGA:.2f} GB"
        f" ({100 * own.own_bytes / max(own.image_bytes, 1):.0f} %) are not shared with row"
        f" {own.beyond}; plus TensorRT, {own.tensorrt_bytes / GIGA:.2f} GB"
    ]
    lines += [f"             plus {name} of unknown size" for name in own.unknown]
    return lines
