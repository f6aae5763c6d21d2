"""``plan``: what a build would take and what is there already, or why it would refuse. No writes.

It is quick: the registry is asked for a base image only where none is here and none can be made.

Sizes come from the lock. What a package cache holds cannot be told from outside, so a download is
said to be up to its size; with a store it is what the store lacks.
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
    """What the build of one image would do. Sizes in bytes."""

    row: str
    target: str
    image: str | None  # its name where it is there, and nothing is to be done
    base: str  # what the base image is, in words
    packages: int  # Python packages that the image's build installs
    package_bytes: int
    debs: int
    deb_bytes: int
    own: "OwnLayers"
    in_store: int | None  # of all files, where a store was named
    terms: str  # under which the vendor gives its part, "" where there is none
    unresolved: tuple[str, ...]  # without these no build begins
    problems: tuple[str, ...]  # for which a build would refuse
    engine: str  # why there is none, or ""


@dataclass(frozen=True, kw_only=True)
class OwnLayers:
    """What of an image is in no layer of the default row's, as far as it was downloaded. Bytes.

    TensorRT's own packages are apart: they differ in every row, and may be of unknown size.
    """

    beyond: str  # the default row
    image_bytes: int
    own_bytes: int
    tensorrt_bytes: int
    unknown: tuple[str, ...]  # packages whose size nobody has said


def own_layers(
    row: Row, locked: LockedRow, default: Row, other: LockedRow, stage: Stage
) -> OwnLayers:
    """Compare the layers of a row's image with those of the default row's.

    A layer is shared where its list is the same: it has the same bytes then.
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
    """Print the forecasts, for a person or for a program."""
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
    """Return the image if it is there, the base in words, why no engine can be asked, problems."""
    try:
        client = connect()
        docker_command()
        require_builder(client.version())
    except EnvironmentLacksError as error:
        base = f"{locked.base.image}, {locked.base.digest}"
        return None, base, error.message, _of_store(row, locked, store, bases=False)
    image = built_image(client, row, locked, stage)
    base = _base_in_words(client, row, locked, store)
    bases = not have_bases(client, row, locked)
    problems = _of_store(row, locked, store, bases=bases)
    if not image and not locked.unresolved:
        problems = (*_of_engine(client, row, locked, stage, store), *problems)
    return image, base, "", problems


def _of_engine(
    client: "DockerClient", row: Row, locked: LockedRow, stage: Stage, store: str
) -> tuple[str, ...]:
    """Return why a build would find no base, or no room for its image."""
    obstacle = base_obstacle(client, row, locked, store)
    if obstacle:
        return (obstacle,)
    try:
        check_disk(client, [plan_of(client, row, locked, "published", stage)])
    except EnvironmentLacksError as error:
        return (error.message,)
    return ()


def _base_in_words(client: "DockerClient", row: Row, locked: LockedRow, store: str) -> str:
    if have_bases(client, row, locked):
        return f"made here: {', '.join(one.image for one in local_bases(row, locked))}"
    if store:
        return f"to be made from {store}"
    if locked.base.digest == UNRESOLVED:
        return f"{locked.base.image}, of which no digest is known"
    if image_id(client, locked.base.reference):
        return f"here: {locked.base.reference}"
    making = "; else made here" if row.base.contents == "minimal" else ""
    return f"to be pulled: {locked.base.reference}{making}"


def _of_store(row: Row, locked: LockedRow, store: str, *, bases: bool) -> tuple[str, ...]:
    """Return what a build would refuse of the store: its packages, and with ``bases`` its debs."""
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
        verdict = "cannot be built: versions.lock has no hash of " + ", ".join(one.unresolved)
    elif one.engine:
        verdict = f"cannot be built here: {one.engine}"
    elif one.problems:
        verdict = f"cannot be built here: {'; '.join(one.problems)}"
    elif one.image:
        verdict = f"nothing to do: {one.image} is there"
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
        f" ({100 * own.own_bytes / max(own.image_bytes, 1):.0f} %) are in no layer of row"
        f" {own.beyond}; TensorRT on top, {own.tensorrt_bytes / GIGA:.2f} GB"
    ]
    lines += [f"             and {name}, whose size no public file says" for name in own.unknown]
    return lines
