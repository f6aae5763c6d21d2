"""Building an image twice from nothing, and comparing what came out to the last byte."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from trtyard.base import have_bases
from trtyard.build import (
    DEFAULT_BUILDER,
    DISK_PER_WHEEL_BYTE,
    BaseKind,
    Plan,
    checked_stage,
    plan_of,
    wheel_bytes,
)
from trtyard.buildkit import explained
from trtyard.command import CommandError, check
from trtyard.console import say, show
from trtyard.convert import row_and_lock
from trtyard.engine import connect, docker_command
from trtyard.lock import read_lock
from trtyard.matrix import read_matrix
from trtyard.oci import Layout, differences, read_layout
from trtyard.pipeline.errors import EnvironmentLacksError, IntegrityError
from trtyard.render import check_rendered, render
from trtyard.tools import GIGA, LOCK_FILE, MATRIX_FILE, ROOT

# Layers as plain tars, so that two of them can be read file by file. The config's digest, which
# names what the layers hold, is that of the image in the engine.
_OUTPUT = "type=oci,tar=false,compression=uncompressed,force-compression=true,dest="
_SHOWN = 40  # differences; the rest are counted


def reproduce(row_name: str, *, stage: str = "final", keep: bool = False) -> None:
    """Build twice without the builder's cache, and print the digests if they agree.

    ``IntegrityError`` names the files that differ. Both builds are removed, or kept with ``keep``.
    """
    row, locked = row_and_lock(row_name)
    check_rendered(render(read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)))
    wanted = checked_stage(row, stage)
    client, docker = connect(), docker_command()
    kind: BaseKind = "local" if have_bases(client, row, locked) else "published"
    plan = plan_of(client, row, locked, kind, wanted)
    folder = Path(tempfile.mkdtemp(prefix="trtyard-reproduce-"))
    try:
        _check_disk(folder, plan)
        _say_what_is_taken_as_it_is(plan)
        first = _build(docker, plan, folder / "first")
        second = _build(docker, plan, folder / "second")
        found = list(differences(first, second))
    finally:
        if keep:
            say(f"both builds are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if found:
        more = [f"and {len(found) - _SHOWN} lines more"] if len(found) > _SHOWN else []
        lines = "\n".join(f"  {line}" for line in [*found[:_SHOWN], *more])
        raise IntegrityError(
            f"two builds of {row.name}, {wanted}, are not the same:\n{lines}",
            "see what writes these files, and let it write the same each time (templates/steps)",
        )
    show(f"{row.name}, {wanted}: two builds from nothing are the same")
    show(f"  config   {first.config}\n  manifest {first.manifest} (layers not compressed)")
    for layer in first.layers:
        show(f"  layer    {layer}")


def _build(docker: Path, plan: Plan, target: Path) -> Layout:
    say(f"building {plan.row.name}, {plan.stage}, from nothing: the {target.name} of two")
    started = time.monotonic()
    command = plan.command(docker, DEFAULT_BUILDER, no_cache=True, output=f"{_OUTPUT}{target}")
    try:
        check(command, cwd=ROOT, env={**os.environ, **plan.variables})
    except CommandError as error:
        raise explained(error) from None
    layout = read_layout(target)
    say(f"the {target.name} took {time.monotonic() - started:.0f} s: config {layout.config}")
    return layout


def _check_disk(folder: Path, plan: Plan) -> None:
    needed = 2 * DISK_PER_WHEEL_BYTE * wheel_bytes(plan)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentLacksError(
            f"two builds take up to {needed / GIGA:.0f} GB, {folder.parent} has"
            f" {free / GIGA:.0f} GB",
            "docker system df   shows what Docker keeps; TMPDIR names another disk",
        )


def _say_what_is_taken_as_it_is(plan: Plan) -> None:
    for base in plan.local:
        say(f"taken as it is: {base.image}; ./run base --force makes it anew")
    say("taken as they are: wheels that uv has in its cache; their hashes are in the lock")
