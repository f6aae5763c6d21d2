"""Check that a row's image is reproducible: build it twice without cache and compare all bytes."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtyard.build.bake import VARIABLES, BaseKind, Plan
from trtyard.build.build import (
    TITLE_LABEL,
    base_kind,
    base_with,
    checked_stage,
    content_labels,
    plan_of,
    with_folders,
)
from trtyard.build.identity import noted_id
from trtyard.build.local_base import STAGES
from trtyard.build.store import check_store
from trtyard.core.errors import IntegrityError, UsageError
from trtyard.lock.file import LockedRow, read_lock, refuse_unresolved
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.prove.layouts import (
    FOLDER,
    MOUNTS,
    NAMES,
    Built,
    base_ids,
    build_command,
    from_engine,
    from_nothing,
    plain_command,
    with_own_bases,
    workplace,
)
from trtyard.prove.oci import Difference, differences
from trtyard.registry.transfer import check_labels
from trtyard.render.dockerfiles import Stage, check_rendered, render
from trtyard.system.docker_engine import (
    connect,
    context_variables,
    docker_command,
    image_id,
    require_builder,
)
from trtyard.system.processes import quoted
from trtyard.system.terminal import say, show
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE

if TYPE_CHECKING:
    from docker import DockerClient

_SHOWN = 40  # differences; --json prints all of them


def reproduce(
    row_name: str,
    *,
    stage: str = "final",
    against: str = "",
    base: str = "auto",
    store: str = "",
    keep: bool = False,
    as_json: bool = False,
    dry_run: bool = False,
) -> None:
    """Build the image twice, or once and compare it with ``against``; print the digests.

    Raises ``IntegrityError`` with the differences. The layouts are removed unless ``keep`` is set.
    """
    row, locked = row_and_lock(row_name)
    check_rendered(render(read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)))
    wanted = checked_stage(row, stage)
    refuse_unresolved(locked)
    base = base_with(store, base)
    if store:
        check_store(row, locked, Path(store).resolve())
    client, docker = connect(), docker_command()
    require_builder(client.version())
    if against:
        against = _name_of(client, against)
        base = _base_of(client, against, row, locked, wanted)
    plan = plan_of(client, row, locked, base_kind(client, row, locked, base), wanted)
    plan = with_folders(plan, store, dry_run=dry_run)
    if dry_run:
        _say_what_would_be_done(docker, plan, against)
        return
    with workplace(client, plan, builds=1 if against else 2, keep=keep):
        if not against:
            first = from_nothing(client, docker, plan, NAMES[0])
            second = from_nothing(client, docker, plan, NAMES[1])
        else:
            # The base is known only for an image that was built on this machine.
            built_here = against == plan.image
            second = from_nothing(client, docker, plan, NAMES[1], like=built_here)
            first = from_engine(client, docker, against, second)
            if built_here:
                first = replace(first, bases=base_ids(client, plan))
        found = [*_in_bases(first, second), *differences(first.image, second.image)]
        _report(plan, first, second, found, as_json=as_json)


def _name_of(client: "DockerClient", image: str) -> str:
    names = client.images.get(image).tags if image_id(client, image) else []
    if not names:
        raise UsageError(f"--against {image}: image not found", "docker image ls 'trtyard/*'")
    return image if image in names else str(names[0])


def _base_of(
    client: "DockerClient", image: str, row: Row, locked: LockedRow, stage: Stage
) -> BaseKind:
    """Return the kind of base of an image, after checking that this checkout builds it.

    Raises ``IntegrityError`` if the image belongs to another checkout, ``UsageError`` if to another
    stage.
    """
    labels = content_labels(row, locked)
    labels.pop(TITLE_LABEL)  # checked below
    check_labels(client, image, labels)
    if noted_id(client, image) not in (None, image_id(client, image)):
        raise IntegrityError(
            f"--against {image}: not the image that ./run build made under this name",
            f"build it again: ./run build --trt {row.name} --target {stage}",
        )
    labels = dict(client.images.get(image).labels)
    title = labels.get(TITLE_LABEL, "")
    if title.endswith(" runtime") != (stage == "runtime"):
        raise UsageError(
            f"--against {image} is {title!r}, not the {stage} image", "give its stage: --target"
        )
    return "local" if labels.get("trtyard.base", "").startswith("local") else "published"


def _in_bases(first: Built, second: Built) -> Iterator[Difference]:
    """Yield the bases that differ.

    The build base compiles parts of the image without being one of its layers.
    """
    for stage, one, other in zip(STAGES, first.bases, second.bases, strict=False):
        if one != other:
            yield Difference(where=stage, path="", attribute="image", first=one, second=other)


def _report(
    plan: Plan, first: Built, second: Built, found: Sequence[Difference], *, as_json: bool
) -> None:
    """Print both digests; raise ``IntegrityError`` if the images or their bases differ."""
    what = f"{plan.row.name}, {plan.stage}"
    if as_json:
        facts = {
            "schema": 1,
            "row": plan.row.name,
            "target": plan.stage,
            "base": plan.base,
            "same": not found,
            "builds": [_facts(first), _facts(second)],
            "differences": [one.facts() for one in found],
        }
        show(json.dumps(facts, indent=2))
    if found:
        # Different times last: other differences explain more.
        ordered = sorted(found, key=lambda one: one.attribute == "mtime")
        lines = [f"  {one}" for one in ordered[:_SHOWN]]
        if len(found) > _SHOWN:
            counts = Counter(f"{one.attribute} in {one.where}" for one in ordered[_SHOWN:])
            rest = ", ".join(f"{count} of {what}" for what, count in counts.items())
            lines.append(f"  and {len(found) - _SHOWN} more (--json prints all): {rest}")
        raise IntegrityError(
            "\n".join([f"{what}: {first.name} and {second.name} differ:", *lines]),
            "docs/reproduce.md explains common causes; --keep keeps both images",
        )
    if not as_json:
        size = first.image.layer_bytes / GIGA
        show(f"{what}: the same, {len(first.image.layers)} layers, {size:.1f} GB")
        for built in (first, second):
            show(f"  {built.image.digest}  {built.name}")


def _facts(built: Built) -> dict[str, Any]:
    return {
        "name": built.name,
        "config": built.image.digest,
        "layers": built.image.layers,
        "bases": built.bases,
        "seconds": round(built.seconds, 1),
    }


def _say_what_would_be_done(docker: Path, plan: Plan, against: str) -> None:
    for name in NAMES[1:] if against else NAMES:
        own = with_own_bases(plan, name)
        for base in own.local:
            say(f"would build {base.image} again")
        say(f"would build {plan.row.name}, {plan.stage}, from scratch: {name}")
        variables = [f"{key}={it}" for key, it in {**VARIABLES, **context_variables()}.items()]
        show(f"{quoted(variables)} {quoted(build_command(docker, own, name, MOUNTS))}")
    if against:
        say(f"would compare it with {against}, exporting that only if their digests differ")
        show(quoted(plain_command(docker, FOLDER / "context", FOLDER / NAMES[0])))
