"""Connects to the Docker engine and checks that it answers and can build.

Each reason why it is not available has an error of its own, with the command that fixes it.
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
PACKAGED_COMMANDS = "/usr/bin"  # where distributions put docker; searched even if not on PATH
ANSWER_SECONDS = 10  # an engine that is alive answers in milliseconds
# The first buildx whose bake replaces stages by named contexts given on its command line.
OLDEST_BUILDX = (0, 12)
OLDEST_ENGINE, OLDEST_API = 25, (1, 44)  # that release's API
ARCHITECTURE = "amd64"  # of all images: the lock has packages for no other architecture
_from_context: dict[str, str] = {}  # environment variables taken from a docker context
_INSTALL = "sudo .ci/install-docker   (Debian 12; elsewhere see docs/images.md)"


def connect() -> "DockerClient":
    """Return a client of the engine that the docker command uses.

    Raises ``EnvironmentLacksError`` if there is no engine, if it is not running, or if this user
    has no access to it.
    """
    from docker import DockerClient
    from docker.errors import DockerException

    _follow_context()
    try:
        _check_socket(os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}")
        client = DockerClient.from_env(timeout=ANSWER_SECONDS, use_ssh_client=True)
        client.ping()
    except (DockerException, OSError) as error:
        raise _connection_error(error) from None
    # A build or a run can be silent for longer than the time-out of a plain request.
    client.api.timeout = None
    return client


def _check_socket(host: str) -> None:
    """Raise ``OSError`` if nothing listens on a local socket: the client would leak its end."""
    scheme, _, path = host.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(path)


def _follow_context() -> None:
    """Set ``DOCKER_HOST`` from the docker context in use, unless that is the default one.

    buildx's builder ``default`` uses the engine of the default context or of ``DOCKER_HOST``.
    Without this, images would be built in one engine and looked up in another (rootless Docker,
    Docker Desktop).
    """
    from docker.context.config import get_current_context_name

    if os.environ.get("DOCKER_HOST"):  # takes precedence over contexts, as with docker itself
        return
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name in ("", "default"):
        return
    try:
        (facts,) = json.loads(output_of(["docker", "context", "inspect", name]))
    except CommandError as error:
        lines = error.tail.strip().splitlines() or ["docker printed no reason"]
        raise EnvironmentLacksError(
            f"the docker context {name} cannot be read: {lines[-1]}",
            "docker context ls   lists them; docker context use default",
        ) from None
    endpoint = facts["Endpoints"]["docker"]
    _from_context["DOCKER_HOST"] = endpoint["Host"]
    if facts["TLSMaterial"].get("docker"):
        _from_context["DOCKER_CERT_PATH"] = str(Path(facts["Storage"]["TLSPath"], "docker"))
        _from_context["DOCKER_TLS" if endpoint.get("SkipTLSVerify") else "DOCKER_TLS_VERIFY"] = "1"
    os.environ.update(_from_context)


def context_variables() -> Mapping[str, str]:
    """Return the environment variables that point a docker command to the engine of ``connect``."""
    return _from_context


def docker_command() -> Path:
    """Return a docker command whose buildx is new enough; else raise ``EnvironmentLacksError``.

    The first docker on PATH may have no plugins, so every docker on PATH is tried.
    """
    folders = [*os.get_exec_path(), PACKAGED_COMMANDS]
    found = [Path(folder) / "docker" for folder in dict.fromkeys(folders)]
    commands = [command for command in found if shutil.which(command)]
    if not commands:
        raise EnvironmentLacksError("the docker command is not installed", _INSTALL)
    too_old = []
    for command in commands:
        version = _buildx_version(command)
        if version and version >= OLDEST_BUILDX:
            return command
        if version:
            too_old.append(version)
    oldest = ".".join(map(str, OLDEST_BUILDX))
    newest = max(too_old, default=None)
    state = f"is {'.'.join(map(str, newest))}" if newest else "is not installed"
    raise EnvironmentLacksError(f"docker's buildx {state}; {oldest} or newer is needed", _INSTALL)


def require_builder(engine: Mapping[str, Any]) -> None:
    """Raise ``EnvironmentLacksError`` if the engine with this ``version`` cannot build images."""
    api = tuple(int(part) for part in str(engine["ApiVersion"]).split("."))
    if api < OLDEST_API:
        raise EnvironmentLacksError(
            f"the Docker engine is {engine['Version']}; {OLDEST_ENGINE} or newer is needed",
            _INSTALL,
        )
    if engine["Arch"] != ARCHITECTURE:
        raise EnvironmentLacksError(
            f"the Docker engine runs on {engine['Arch']}, but the images are for {ARCHITECTURE}",
            "use another engine: DOCKER_HOST, a docker context, or --builder (docs/scaling.md)",
        )


def has_nvidia_runtime(client: "DockerClient") -> bool:
    """Tell whether the engine can pass NVIDIA's GPUs into a container."""
    return "nvidia" in client.info().get("Runtimes", {})


def image_id(client: "DockerClient", name: str) -> str | None:
    """Return the image's id (``sha256:`` and 64 hex digits), or None if the engine lacks it."""
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(name).id)
    except ImageNotFound:
        return None


@contextmanager
def made_container(
    client: "DockerClient", image: str, command: Sequence[str] | None = None, **settings: Any
) -> Iterator["Container"]:
    """Create a container without starting it; remove it at the end, also after an error."""
    from docker.errors import APIError

    container = None
    try:
        with held_back():
            container = client.containers.create(image, command, **settings)
        yield container
    except APIError as error:
        if container is not None:
            raise
        raise _creation_error(str(error.explanation)) from None
    finally:
        if container is not None:
            with suppress(APIError, OSError):
                container.remove(force=True)


def registry_problem(client: "DockerClient", image: str) -> str | None:
    """Return why the registry does not provide ``image``, or None if it does."""
    from docker.errors import APIError

    waited, client.api.timeout = client.api.timeout, ANSWER_SECONDS
    try:
        client.api.inspect_distribution(image)
    except APIError as error:
        reason = str(error.explanation or error).strip()
        return re.sub(r"https?://", "", reason)
    except OSError:  # how the client reports a time-out
        return f"no answer in {ANSWER_SECONDS} s"
    finally:
        client.api.timeout = waited
    return None


def _buildx_version(command: Path) -> tuple[int, int] | None:
    # Not through system.processes: a docker without the plugin fails, and that is no error here.
    done = subprocess.run(
        [command, "buildx", "version"], capture_output=True, text=True, check=False
    )
    # Match buildx's name: another program named docker may print a version of its own.
    match = re.search(r"docker/buildx v?(\d+)\.(\d+)\.\d+", done.stdout)
    return (int(match[1]), int(match[2])) if done.returncode == 0 and match else None


def _connection_error(error: Exception) -> EnvironmentLacksError:
    host = os.environ.get("DOCKER_HOST")
    if _from_context:
        return EnvironmentLacksError(
            f"no Docker engine answers at {host}, the address of the docker context: {error}",
            "start it, or use another: docker context ls; docker context use default",
        )
    if host and host != f"unix://{SOCKET}":
        return EnvironmentLacksError(
            f"no Docker engine answers at DOCKER_HOST={host}: {error}", "unset DOCKER_HOST"
        )
    if not SOCKET.exists():
        if shutil.which("dockerd"):
            return EnvironmentLacksError(
                "Docker is installed, but its engine is not running", "sudo systemctl start docker"
            )
        return EnvironmentLacksError("there is no Docker engine on this machine", _INSTALL)
    if not os.access(SOCKET, os.R_OK | os.W_OK):
        return EnvironmentLacksError(
            f"this user has no access to the Docker engine: no permission for {SOCKET}",
            'sudo usermod -aG docker "$USER"   and log in again',
        )
    return EnvironmentLacksError(
        f"the Docker engine does not answer at {SOCKET}", "sudo systemctl restart docker"
    )


def _creation_error(reason: str) -> EnvironmentLacksError:
    if "source path does not exist" in reason or "mounts denied" in reason:
        return EnvironmentLacksError(
            f"the Docker engine cannot mount folders of this machine: {reason}",
            "use an engine on this machine (docker context ls; DOCKER_HOST), or run without"
            " Docker: --in host",
        )
    return EnvironmentLacksError(f"the container cannot be created: {reason}")
