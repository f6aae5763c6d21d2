"""Resolving distribution packages on top of a vendor's base image, inside of it.

What such an image holds, and which apt sources it has set up, only it can tell. So it is pulled by
its digest, its own dpkg lists what is there (the digest stands for those, so they have no hash of
their own), and its own apt says what the row's packages add. The container is thrown away.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.debs import facts_of, planned
from trtyard.lock.file import Deb, DebStage
from trtyard.matrix.row import Row
from trtyard.system.docker_engine import connect, docker_command, image_id, made_container
from trtyard.system.processes import CommandError, check
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient

NETWORK = "bridge"
_INSTALLED = "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}\n"
_LIFETIME_SECONDS = "1800"  # the container ends by itself, whatever becomes of us


def resolve_on(reference: str, row: Row) -> tuple[Deb, ...]:
    """Return every package of the row's image that starts from ``reference``.

    ``EnvironmentLacksError`` where there is no engine, the image cannot be had, or its apt has no
    such package.
    """
    client = connect()
    if image_id(client, reference) is None:
        say(f"pulling {reference}, to ask its apt")
        check([docker_command(), "pull", "--quiet", reference])
    with _inside(client, reference) as run:
        found = {deb.name: deb for deb in _installed(run)}
        _update(run, reference)
        wanted: tuple[str, ...] = ()
        for stage, names in _asked(row):
            wanted += names
            plan = dict(planned(run, wanted))
            new = {
                name: version
                for name, version in plan.items()
                if name not in found or found[name].version != version
            }
            found.update(facts_of(run, stage, new))
    return tuple(sorted(found.values(), key=lambda deb: deb.name))


def _update(run: Callable[[Sequence[str]], str], reference: str) -> None:
    """Update apt's lists; a source may fail, as does a vendor's whose key has changed since.

    What only it had is then not found, and said to be missing.
    """
    try:
        run(["apt-get", "update", "--quiet"])
    except CommandError as error:
        say(f"{reference}: a source of its apt failed, going on without it: {error.message}")


def _asked(row: Row) -> list[tuple[DebStage, tuple[str, ...]]]:
    vendor = tuple(f"{name}={version}" for name, version in row.vendor_debs.items())
    return [("runtime", (*row.debs.base, *row.debs.runtime, *vendor)), ("build", row.debs.build)]


def _installed(run: Callable[[Sequence[str]], str]) -> Iterator[Deb]:
    for line in run(["dpkg-query", "--show", "--showformat", _INSTALLED]).splitlines():
        state, name, version, architecture = line.split("|")
        if state.startswith("ii"):
            yield Deb(
                name=name,
                version=version,
                architecture=architecture,
                stage="base",
                sha256="",
                size=0,
            )


@contextmanager
def _inside(client: "DockerClient", reference: str) -> Iterator[Callable[[Sequence[str]], str]]:
    """Give a function that runs a command in a container of the image and returns its stdout."""
    settings = {
        "entrypoint": "sleep",
        "user": "root",
        "network_mode": NETWORK,
        "environment": {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    }
    with made_container(client, reference, [_LIFETIME_SECONDS], **settings) as container:
        container.start()

        def run(command: Sequence[str]) -> str:
            code, (out, err) = container.exec_run(list(command), demux=True)
            if code != 0:
                said = ((out or b"") + (err or b"")).decode(errors="replace")
                raise CommandError(list(command), code, said)
            return (out or b"").decode()

        try:
            yield run
        except CommandError as error:
            raise EnvironmentLacksError(f"{reference}: {error.message}") from None
