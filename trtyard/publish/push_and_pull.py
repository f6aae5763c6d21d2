"""Push and pull the images of a row."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trtyard.build.build import (
    checked_stage,
    content_labels,
    local_name,
    needed_image,
    published_name,
)
from trtyard.build.identity import note_id
from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.file import LockedRow, refuse_unresolved
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.row import Row
from trtyard.prove import provenance, sbom
from trtyard.prove.inspect import bill_of, inspect
from trtyard.registry.referrers import attach
from trtyard.registry.transfer import (
    Registry,
    check_labels,
    digest_of,
    is_same,
    pull_image,
    push_image,
)
from trtyard.render.dockerfiles import Stage
from trtyard.system.docker_engine import connect, docker_command
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient


def push(
    row_name: str, *, stages: Sequence[str] = ("final",), registry: str = "", dry_run: bool = False
) -> list[str]:
    """Push the row's images for this checkout; return their names in the registry.

    Raises ``EnvironmentLacksError`` if one is not built or the registry refuses it,
    ``IntegrityError`` if the local name belongs to a different image.
    """
    place = Registry.needed(registry)
    row, locked = row_and_lock(row_name)
    wanted = [checked_stage(row, stage) for stage in stages]
    refuse_unresolved(locked)
    client = connect()
    local = {stage: needed_image(client, row, locked, stage) for stage in wanted}
    return [
        _push(client, row, locked, stage, local[stage], place, dry_run=dry_run) for stage in wanted
    ]


def _push(
    client: "DockerClient",
    row: Row,
    locked: LockedRow,
    stage: Stage,
    local: str,
    place: Registry,
    *,
    dry_run: bool,
) -> str:
    check_labels(client, local, content_labels(row, locked, stage))
    remote = published_name(place, row, stage)
    if dry_run:
        say(f"would push {local} as {remote}")
    else:
        digest = push_image(client, docker_command(), local, remote)
        if is_same(client, local, remote, digest):
            attach_documents(client, row, locked, local, remote, digest)
    return remote


def attach_documents(
    client: "DockerClient", row: Row, locked: LockedRow, local: str, remote: str, digest: str
) -> None:
    """Attach the bill of materials and the provenance to the pushed image."""
    found = inspect(client, local)
    _attach("bill of materials", remote, digest, bill_of(found), sbom.MEDIA_TYPE)
    made = provenance.statement(remote.rpartition(":")[0], digest, row, locked, found.labels)
    _attach("provenance", remote, digest, made, provenance.MEDIA_TYPE)


def _attach(
    what: str, remote: str, digest: str, content: Mapping[str, Any], media_type: str
) -> None:
    """Attach a document to the image; if that fails, only warn: the image itself is pushed."""
    try:
        done = attach(remote, digest, json.dumps(content, sort_keys=True).encode(), media_type)
    except EnvironmentLacksError as error:
        say(f"warning: the {what} was not attached: {error}")
        return
    where = f", listed under the tag {done.tag}" if done.tag else ""
    how = "attached the" if done.moved else "already attached:"
    say(f"{how} {what}: {done.digest}{where}")


def pull(
    row_name: str, *, stages: Sequence[str] = ("final",), registry: str = "", dry_run: bool = False
) -> list[str]:
    """Pull the images that a build of the row would make; return their local names.

    Raises ``EnvironmentLacksError`` if the registry does not have one, ``IntegrityError`` if its
    labels are not those of this checkout.
    """
    place = Registry.needed(registry)
    row, locked = row_and_lock(row_name)
    wanted = [checked_stage(row, stage) for stage in stages]
    client = connect()
    names = []
    for stage in wanted:
        remote, local = published_name(place, row, stage), local_name(row, stage)
        if dry_run:
            say(f"would pull {remote} ({digest_of(client, remote)}) as {local}")
        else:
            labels = content_labels(row, locked, stage)
            pull_image(client, docker_command(), remote, local, labels)
            note_id(client, local)
        names.append(local)
    return names
