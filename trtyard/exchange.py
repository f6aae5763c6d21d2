"""Pushing and pulling a row's image."""

from trtyard.build import built_image, content_labels, local_name, published_name
from trtyard.console import say
from trtyard.convert import row_and_lock
from trtyard.engine import connect, docker_command
from trtyard.pipeline.errors import EnvironmentLacksError
from trtyard.registry import Registry, check_labels, digest_of, pull_image, push_image


def push(row_name: str, *, registry: str = "", dry_run: bool = False) -> str:
    """Push the row's image as it would be built now; return the name it has in the registry.

    ``EnvironmentLacksError`` where it is not built or the registry does not take it.
    """
    place = Registry.needed(registry)
    row, locked = row_and_lock(row_name)
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
        push_image(client, docker_command(), local, remote)
    return remote


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
