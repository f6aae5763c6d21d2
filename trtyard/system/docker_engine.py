"""The Docker engine on this machine: is one there, does it answer, can it build, what does it have.

Every way in which it can be missing has its own error, with the command that fixes it.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system.interruptions import held_back
from trtyard.system.processes import CommandError, output_of

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SOCKET = Path("/var/run/docker.sock")
PACKAGED_COMMANDS = "/usr/bin"  # where a distribution puts docker, whatever PATH says
ANSWER_SECONDS = 10  # an engine that is alive answers in milliseconds
# The first buildx whose bake replaces stages by named contexts given on its command line.
OLDEST_BUILDX = (0, 12)
OLDEST_ENGINE, OLDEST_API = 25, (1, 44)  # that release's API
ARCHITECTURE = "amd64"  # of all images: the lock names no other's packages
_followed: dict[str, str] = {}  # variables that were taken from a docker context
_INSTALL = "sudo .ci/install-docker   (Debian 12; elsewhere see docs/images.md)"


def connect() -> "DockerClient":
    """Return a client of the engine that the docker command would talk to.

    ``EnvironmentLacksError`` where there is none, it is not running, or this user may not.
    """
    from docker import DockerClient
    from docker.errors import DockerException

    _follow_context()
    try:
        _knock(os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}")
        client = DockerClient.from_env(timeout=ANSWER_SECONDS, use_ssh_client=True)
        client.ping()
    except (DockerException, OSError) as error:
        raise _explained(error) from None
    # A build or a run may say nothing for longer than an engine needs to answer a question.
    client.api.timeout = None
    return client


def _knock(host: str) -> None:
    """``OSError`` where nobody listens on a local socket: the client would leave its end open."""
    scheme, _, path = host.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(ANSWER_SECONDS)
            knocking.connect(path)


def _follow_context() -> None:
    """Take ``DOCKER_HOST`` from the docker context in use, where it is not the default one.

    buildx's builder ``default`` is the default context's engine, or that of ``DOCKER_HOST``.
    Without this, what is built would be in another engine than all else is (rootless Docker, Docker
    Desktop).
    """
    from docker.context.config import get_current_context_name

    if os.environ.get("DOCKER_HOST"):  # as for docker it comes before any context
        return
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name in ("", "default"):
        return
    try:
        (facts,) = json.loads(output_of(["docker", "context", "inspect", name]))
    except CommandError as error:
        said = error.tail.strip().splitlines() or ["no word why"]
        raise EnvironmentLacksError(
            f"the docker context {name} cannot be read: {said[-1]}",
            "docker context ls   lists them; docker context use default",
        ) from None
    endpoint = facts["Endpoints"]["docker"]
    _followed["DOCKER_HOST"] = endpoint["Host"]
    if facts["TLSMaterial"].get("docker"):
        _followed["DOCKER_CERT_PATH"] = str(Path(facts["Storage"]["TLSPath"], "docker"))
        _followed["DOCKER_TLS" if endpoint.get("SkipTLSVerify") else "DOCKER_TLS_VERIFY"] = "1"
    os.environ.update(_followed)


def context_variables() -> Mapping[str, str]:
    """Return what a docker command needs besides to talk to the engine of ``connect``."""
    return _followed


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


def require_builder(engine: Mapping[str, Any]) -> None:
    """``EnvironmentLacksError`` where the engine cannot build a row's image, by its ``version``."""
    api = tuple(int(part) for part in str(engine["ApiVersion"]).split("."))
    if api < OLDEST_API:
        raise EnvironmentLacksError(
            f"the Docker engine is {engine['Version']}; {OLDEST_ENGINE} or newer is needed",
            _INSTALL,
        )
    if engine["Arch"] != ARCHITECTURE:
        raise EnvironmentLacksError(
            f"the Docker engine's machine is {engine['Arch']}, the images are of {ARCHITECTURE}",
            "build elsewhere: DOCKER_HOST, a docker context, or --builder (docs/scaling.md)",
        )


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
        raise _making_error(str(error.explanation)) from None
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
    # Not through system.processes: a docker without the plugin fails, which is an answer here.
    done = subprocess.run(
        [command, "buildx", "version"], capture_output=True, text=True, check=False
    )
    # By its name: another program under docker's name tells a version of its own.
    match = re.search(r"docker/buildx v?(\d+)\.(\d+)\.\d+", done.stdout)
    return (int(match[1]), int(match[2])) if done.returncode == 0 and match else None


def _explained(error: Exception) -> EnvironmentLacksError:
    elsewhere = os.environ.get("DOCKER_HOST")
    if _followed:
        return EnvironmentLacksError(
            f"no Docker engine answers at {elsewhere}, where the docker context leads: {error}",
            "start it, or take another: docker context ls; docker context use default",
        )
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


def _making_error(said: str) -> EnvironmentLacksError:
    if "source path does not exist" in said or "mounts denied" in said:
        return EnvironmentLacksError(
            f"the Docker engine does not see what is on this machine: {said}",
            "an engine of this machine can (docker context ls; DOCKER_HOST); or without: --in host",
        )
    return EnvironmentLacksError(f"the container could not be made: {said}")
