"""The Docker engine on this machine: is one there, does it answer, can it build, what does it have.

Every way in which it can be missing has its own error, with the command that mends it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtyard.interruptions import held_back
from trtyard.pipeline.errors import EnvironmentLacksError, TrtyardError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SOCKET = Path("/var/run/docker.sock")
PACKAGED_COMMANDS = "/usr/bin"  # where a distribution puts docker, whatever PATH says
ANSWER_SECONDS = 10  # an engine that is alive answers in milliseconds
# The first buildx whose bake replaces stages by named contexts given on its command line.
OLDEST_BUILDX = (0, 12)
_INSTALL = "sudo .ci/install-docker   (Debian 12; elsewhere see docs/images.md)"


def connect() -> "DockerClient":
    """Return a client of the engine that ``DOCKER_HOST`` or the default socket leads to.

    ``EnvironmentLacksError`` where there is none, it is not running, or this user may not.
    """
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient.from_env(timeout=ANSWER_SECONDS)
        client.ping()
    except (DockerException, OSError) as error:
        raise _explained(error) from None
    # A build or a run may say nothing for longer than an engine needs to answer a question.
    client.api.timeout = None
    return client


def docker_command() -> Path:
    """Return a docker command with a buildx new enough; ``EnvironmentLacksError`` if there is none.

    The first on PATH may be a client without plugins, so all of them are asked.
    """
    folders = [*os.get_exec_path(), PACKAGED_COMMANDS]
    found = [Path(folder) / "docker" for folder in dict.fromkeys(folders)]
    commands = [command for command in found if shutil.which(command)]
    if not commands:
        raise EnvironmentLacksError("the docker command is not installed", _INSTALL)
    versions = {command: _buildx_version(command) for command in commands}
    for command, version in versions.items():
        if version and version >= OLDEST_BUILDX:
            return command
    oldest = ".".join(map(str, OLDEST_BUILDX))
    newest = max((version for version in versions.values() if version), default=None)
    state = f"is {'.'.join(map(str, newest))}" if newest else "is not installed"
    raise EnvironmentLacksError(f"docker's buildx {state}; {oldest} or newer is needed", _INSTALL)


def has_nvidia_runtime(client: "DockerClient") -> bool:
    """Tell whether the engine can pass NVIDIA's GPUs into a container."""
    return "nvidia" in client.info().get("Runtimes", {})


def image_id(client: "DockerClient", name: str) -> str | None:
    """Return the image's id (``sha256:`` and 64 hex digits), or None where it is not there."""
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(name).id)
    except ImageNotFound:
        return None


@contextmanager
def made_container(
    client: "DockerClient", image: str, command: Sequence[str] | None = None, **settings: Any
) -> Iterator["Container"]:
    """Make a container, which is not started; it is removed at the end, however that comes."""
    from docker.errors import APIError

    container = None
    try:
        with held_back():
            container = client.containers.create(image, command, **settings)
        yield container
    except APIError as error:
        if container is not None:
            raise
        raise TrtyardError(f"the container could not be made: {error.explanation}") from None
    finally:
        if container is not None:
            with suppress(APIError, OSError):
                container.remove(force=True)


def registry_problem(client: "DockerClient", image: str) -> str | None:
    """Return why the registry does not give ``image``, or None if it answers for it."""
    from docker.errors import APIError

    waited, client.api.timeout = client.api.timeout, ANSWER_SECONDS
    try:
        client.api.inspect_distribution(image)
    except APIError as error:
        said = str(error.explanation or error).strip()
        return re.sub(r"https?://", "", said)
    except OSError:  # the client's own kind of time-out
        return f"no answer in {ANSWER_SECONDS} s"
    finally:
        client.api.timeout = waited
    return None


def _buildx_version(command: Path) -> tuple[int, int] | None:
    # Not through trtyard.command: a docker without the plugin fails, and that is an answer here.
    done = subprocess.run(
        [command, "buildx", "version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"\bv?(\d+)\.(\d+)\.\d+", done.stdout)
    return (int(match[1]), int(match[2])) if done.returncode == 0 and match else None


def _explained(error: Exception) -> EnvironmentLacksError:
    elsewhere = os.environ.get("DOCKER_HOST")
    if elsewhere and elsewhere != f"unix://{SOCKET}":
        return EnvironmentLacksError(
            f"no Docker engine answers at DOCKER_HOST={elsewhere}: {error}", "unset DOCKER_HOST"
        )
    if not SOCKET.exists():
        if shutil.which("dockerd"):
            return EnvironmentLacksError(
                "Docker is installed, but its engine is not running", "sudo systemctl start docker"
            )
        return EnvironmentLacksError("there is no Docker engine on this machine", _INSTALL)
    if not os.access(SOCKET, os.R_OK | os.W_OK):
        return EnvironmentLacksError(
            f"this user may not use the Docker engine ({SOCKET} is its own and its group's)",
            'sudo usermod -aG docker "$USER"   and log in again',
        )
    return EnvironmentLacksError(
        f"the Docker engine does not answer at {SOCKET}", "sudo systemctl restart docker"
    )
