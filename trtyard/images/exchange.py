"""Pushing and pulling a row's image."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trtyard.console import say
from trtyard.convert import row_and_lock
from trtyard.images import provenance, sbom
from trtyard.images.build import built_image, content_labels, local_name, published_name
from trtyard.engine import connect, docker_command
from trtyard.images.inspect import bill_of, inspect
from trtyard.lock.file import LockedRow, refuse_unresolved
from trtyard.matrix.row import Row
from trtyard.pipeline.errors import EnvironmentLacksError
from trtyard.registry.referrers import attach
from trtyard.registry.transfer import (
    Registry,
    check_labels,
    digest_of,
    is_same,
    pull_image,
    push_image,
)

if TYPE_CHECKING:
    from docker import DockerClient


def push(row_name: str, *, registry: str = "", dry_run: bool = False) -> str:
    """Push the row's image as it would be built now; return the name it has in the registry.

    ``EnvironmentLacksError`` where it is not built or the registry does not take it.
    """
    place = Registry.needed(registry)
    row, locked = row_and_lock(row_name)
    refuse_unresolved(locked)
    client = connect()
    local = built_image(client, row, locked)
    if local is None:
        raise EnvironmentLacksError(
            f"the image of row {row.name} is not built", f"./run build --trt {row.name}"
        )
    labels = content_labels(row, locked)
    check_labels(client, local, labels)
    remote = published_name(place, row)
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
    """Put beside the pushed image what it holds, and what it was made from."""
    found = inspect(client, local)
    _attach("bill of materials", remote, digest, bill_of(found), sbom.MEDIA_TYPE)
    made = provenance.statement(remote.rpartition(":")[0], digest, row, locked, found.labels)
    _attach("provenance", remote, digest, made, provenance.MEDIA_TYPE)


def _attach(
    what: str, remote: str, digest: str, content: Mapping[str, Any], media_type: str
) -> None:
    """Put a document beside the image; where that fails, say so: the image itself is there."""
    try:
        done = attach(remote, digest, json.dumps(content, sort_keys=True).encode(), media_type)
    except EnvironmentLacksError as error:
        say(f"its {what} is not attached: {error}")
        return
    where = f", listed by the tag {done.tag}" if done.tag else ""
    how = "is attached" if done.moved else "was attached already"
    say(f"its {what} {how}: {done.digest}{where}")


def pull(row_name: str, *, registry: str = "", dry_run: bool = False) -> str:
    """Pull the image that a build of the row would give; return the name it has here.

    ``EnvironmentLacksError`` where the registry does not give it, ``IntegrityError`` where it is
    another than its name says.
    """
    place = Registry.needed(registry)
    row, locked = row_and_lock(row_name)
    client = connect()
    remote, local = published_name(place, row), local_name(row)
    if dry_run:
        say(f"would pull {remote}, {digest_of(client, remote)}, as {local}")
        return local
    return pull_image(client, docker_command(), remote, local, content_labels(row, locked))
