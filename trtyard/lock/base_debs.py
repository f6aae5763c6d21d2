"""Resolves distribution packages inside a vendor's base image.

Only the image itself knows its packages and apt sources. So it is pulled by its digest, its dpkg
lists the installed packages (pinned by the digest, so they have no hash of their own), and its apt
resolves the packages that the row adds. The container is removed afterwards.
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
_LIFETIME_SECONDS = "1800"  # the container ends after this, even if trtyard is killed


def resolve_on(reference: str, row: Row) -> tuple[Deb, ...]:
    """Return all packages of the row's image with the base image ``reference``.

    Raises ``EnvironmentLacksError`` if there is no Docker engine, the image cannot be pulled, or
    its apt does not have a package.
    """
    client = connect()
    if image_id(client, reference) is None:
        say(f"pulling {reference} to resolve packages with its apt")
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
    """Update apt's lists. A source may fail, such as a vendor's whose key has changed since.

    A package that only this source has is then reported as missing.
    """
    try:
        run(["apt-get", "update", "--quiet"])
    except CommandError as error:
        say(f"{reference}: skipped an apt source that failed: {error.message}")


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
    """Yield a function that runs a command in a container of the image and returns its stdout."""
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
                output = ((out or b"") + (err or b"")).decode(errors="replace")
                raise CommandError(list(command), code, output)
            return (out or b"").decode()

        try:
            yield run
        except CommandError as error:
            raise EnvironmentLacksError(f"{reference}: {error.message}") from None
