"""The Docker executor: runs the row's image with the fewest rights that a conversion needs.

No network, no capabilities, no new privileges, a read-only root, the caller's user. Mounts: the
output folder (writable) and the given input files (read-only).
"""

import codecs
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trtyard.build.build import build, built_image, image_problems, pull_offered
from trtyard.build.identity import note_id
from trtyard.build.packages_image import PACKAGES_PATH, image_with_packages
from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.core.shown_paths import replacing
from trtyard.lock.file import LockedRow, refuse_unresolved
from trtyard.matrix.row import Row
from trtyard.registry.transfer import Registry
from trtyard.render.dockerfiles import OUT_PATH, PLUGIN_LIBRARY, ROW_PATH
from trtyard.run.job import Job
from trtyard.run.limits import Limits, Watch, limits_of
from trtyard.run.overlay import make_overlay
from trtyard.system.docker_engine import connect, docker_command, has_nvidia_runtime, made_container
from trtyard.system.plain_text import Plain
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

INPUTS_PATH = "/mnt/inputs"
# torch maps compiled code from there, so it must be executable. Its files count as the container's
# memory; model files go to the output folder instead.
TEMPORARY_PATH = "/tmp"  # noqa: S108 - inside the container
TEMPORARY = "rw,exec,nosuid,nodev,mode=1777,size="
# Variables of the caller that also apply in the container: debugging and numbers of threads.
PASSED_ON = (
    *("PYTHONFAULTHANDLER", "TORCH_LOGS", "TORCH_SHOW_CPP_STACKTRACES", "TORCHDYNAMO_VERBOSE"),
    *("CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)
# How long the pipeline may take to remove partial files.
GRACE_SECONDS = 10
LABEL = "trtyard.convert"
OUT_LABEL = "trtyard.out"  # the path of the output folder, for people
FOLDER_LABEL = "trtyard.folder"  # the output folder's identity, see _identity
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def engine_problem() -> str | None:
    """Return why Docker cannot be used, or None if it can."""
    try:
        connect()
    except EnvironmentLacksError as error:
        return error.message
    return None


def why_not(row: Row, locked: LockedRow) -> str | None:
    """Return why the row cannot run in Docker now, or None if it can. Quick, writes nothing."""
    if "docker" not in row.executors:
        return f"row {row.name} has no Docker image"
    try:
        client = connect()
    except EnvironmentLacksError as error:
        return error.message
    if built_image(client, row, locked) is None:
        problems = image_problems(client, row, locked)
        problem = "; ".join(problems) or "the row's image is not built"
        return f"{problem}: ./run build --trt {row.name}"
    return None


def describe(row: Row, locked: LockedRow) -> str:
    """Return what would run and what would be made first, for ``--dry-run``."""
    image = built_image(connect(), row, locked)
    if image is None:
        refuse_unresolved(locked)
    return f"a container of {image}" if image else "the row's image, which is built first"


def pull_if_missing(row: Row, locked: LockedRow) -> None:
    """Pull the row's image if it is not built and a configured registry has it."""
    if Registry.configured() is None or "docker" not in row.executors:
        return
    try:
        client = connect()
        if built_image(client, row, locked) is None:
            pull_offered(client, docker_command(), row, locked)
    except EnvironmentLacksError as error:
        say(f"the image was not pulled: {error.message}")


def convert(job: Job) -> int:
    """Run the job in the row's image and return its exit code; build the image first if needed.

    Raises ``EnvironmentLacksError`` if Docker fails or the container hits a limit.
    """
    client = connect()
    image = _image(client, job.row, job.locked)
    places = places_of(job)
    names = {place: str(path) for path, place in places.items()}
    library = {} if job.plugins else {"plugins": PLUGIN_LIBRARY}
    words = job.arguments("docker", ROW_PATH, lambda path: places[path], **library)
    if job.requirements:
        overlay = make_overlay(job.row, job.locked, job.row.python, job.requirements)
        image = image_with_packages(client, image, overlay.folder)
        words += ["--package-folder", PACKAGES_PATH]
    for path, place in places.items():
        if path != job.weights or not job.weights_name:  # which has another name
            words += ["--shown-as", place, str(path)]
    engine = client.info()
    limits = limits_of(engine, job.request.memory or "", str(job.request.processes or ""))
    settings = {**settings_of(job, places, limits), **caller_on(engine)}
    if has_nvidia_runtime(client):
        settings["device_requests"] = _all_gpus()
    watch = Watch(limits)
    with _container(client, image, words, settings) as (container, output):
        for text in watch.lines(_translated(output, names)):
            sys.stderr.write(text)
            sys.stderr.flush()
        with _engine_answers():
            code = int(container.wait()["StatusCode"])
            container.reload()
    hit = watch.hit(container.attrs["State"]) if code else None
    if hit is not None:
        raise hit
    return code


def output_of(row: Row, locked: LockedRow, words: Sequence[str]) -> str:
    """Return what a command of the pipeline prints; build the image first if needed.

    Raises ``ConversionError`` if it fails.
    """
    client = connect()
    image = _image(client, row, locked)
    command = [*words, "--row-file", ROW_PATH]
    settings = {"network_mode": "none", "cap_drop": ["ALL"], "read_only": True}
    settings["tmpfs"] = {TEMPORARY_PATH: f"{TEMPORARY}256m"}
    with made_container(client, image, command, **settings) as container, _engine_answers():
        container.start()
        code = int(container.wait()["StatusCode"])
        if code:
            said = container.logs(stdout=False).decode(errors="replace")
            raise ConversionError(f"{words[0]} failed with exit code {code}:\n{said}")
        return str(container.logs(stderr=False).decode(errors="replace"))


def _image(client: "DockerClient", row: Row, locked: LockedRow) -> str:
    """Return the name of the row's image, which is built if necessary."""
    image = built_image(client, row, locked)
    if image is None:
        return build(row.name)
    note_id(client, image)
    return image


def places_of(job: Job) -> dict[Path, str]:
    """Return the path in the container of each mounted folder and file."""
    places = {job.out: OUT_PATH}
    for number, path in enumerate(dict.fromkeys(job.inputs())):
        places[path] = str(PurePosixPath(INPUTS_PATH, str(number), path.name or "root"))
    return places


def end_orphans(out: Path) -> None:
    """Remove containers of killed runs that write into ``out``, under any of its paths.

    The caller has locked ``out``, so no live run has one. Does nothing without Docker.
    """
    from docker.errors import APIError

    try:
        client = connect()
    except EnvironmentLacksError:
        return
    with closing(client):
        wanted = {"label": f"{FOLDER_LABEL}={_identity(out)}"}
        for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
            say(f"removing container {container.short_id} of a killed run into {out}")
            with suppress(APIError):
                container.remove(force=True)


def _identity(folder: Path) -> str:
    """Return the folder's identity: the same for all its paths until the next boot.

    It includes the boot id, because inode numbers repeat on other machines with the same Docker.
    """
    facts = folder.stat()
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""
    return f"{boot}:{facts.st_dev}:{facts.st_ino}"


def caller_on(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make the caller own the container's files, from Docker's ``info``.

    In rootless Docker, root is the user who runs it, and other ids cannot write that user's files.
    With userns-remap, the mapping is turned off for the container.
    """
    options = {str(one).partition(",")[0] for one in engine.get("SecurityOptions") or ()}
    if "name=rootless" in options:
        return {"user": "0:0"}
    caller: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}
    if "name=userns" in options:
        caller["userns_mode"] = "host"
    return caller


def settings_of(job: Job, places: Mapping[Path, str], limits: Limits) -> dict[str, Any]:
    """Return docker-py's settings for the container: rights, limits, mounts and environment."""
    from docker.types import Mount

    # Not "volumes": they allow no colon in a path and create missing folders.
    mounts = [
        Mount(target=place, source=str(path), type="bind", read_only=path != job.out)
        for path, place in places.items()
    ]
    environment = {"PYTHONSAFEPATH": "1"}
    environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    stands_in = {} if job.code_folder is None else {"working_dir": places[job.code_folder]}
    return {
        **stands_in,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {TEMPORARY_PATH: f"{TEMPORARY}{limits.temporary}"},
        **limits.settings(),
        "mounts": mounts,
        "environment": environment,
        "labels": {LABEL: job.row.name, OUT_LABEL: str(job.out), FOLDER_LABEL: _identity(job.out)},
    }


@contextmanager
def _container(
    client: "DockerClient", image: str, words: list[str], settings: Mapping[str, Any]
) -> Iterator[tuple["Container", Iterator[bytes]]]:
    """Start a container and yield it with its output; stop and remove it at the end."""
    from docker.errors import APIError

    with made_container(client, image, words, **settings) as container:
        try:
            # Attach before the start: output of a container that ends quickly would be lost.
            with _attached(container) as attached:
                try:
                    container.start()
                except APIError as error:
                    raise _start_error(str(error.explanation)) from None
                yield container, _output(attached)
        except BaseException:
            # SIGINT like Ctrl-C: the pipeline removes its partial files.
            with suppress(APIError, OSError):
                container.kill(signal=signal.SIGINT)
                container.wait(timeout=GRACE_SECONDS)
            raise


@contextmanager
def _attached(container: "Container") -> Iterator[Iterable[bytes]]:
    """Yield the container's future output; close the connection, which docker-py leaves open."""
    from docker.errors import DockerException

    stream = container.attach(stream=True, logs=False)
    try:
        yield stream
    finally:
        # It may be closed already, and docker-py cannot close it over ssh.
        with suppress(OSError, DockerException):
            stream.close()
        stream._response.close()


def _output(attached: Iterable[bytes]) -> Iterator[bytes]:
    with _engine_answers():
        yield from attached


@contextmanager
def _engine_answers() -> Iterator[None]:
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (OSError, HTTPError) as error:
        raise EnvironmentLacksError(
            f"lost the connection to Docker while the container ran: {error}",
            "sudo systemctl restart docker, then run the same command again",
        ) from None


def _start_error(said: str) -> EnvironmentLacksError:
    if "nvidia" in said.lower():
        return EnvironmentLacksError(
            f"Docker could not pass the GPU into the container: {said}",
            "check the driver with nvidia-smi; without a GPU: --in host",
        )
    return EnvironmentLacksError(f"the container did not start: {said}")


def _all_gpus() -> list[Any]:
    from docker.types import DeviceRequest

    return [DeviceRequest(count=-1, capabilities=[["gpu"]])]


def _translated(pieces: Iterable[bytes], names: Mapping[str, str]) -> Iterator[str]:
    """Yield the container's output as lines, with paths of this machine and no terminal codes."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    replace = replacing(names)
    plain, rest = Plain(), ""
    for piece in pieces:
        *lines, rest = (rest + decode(plain.feed(piece))).split("\n")
        yield from (replace(line) + "\n" for line in lines)
    rest += decode(plain.rest())
    if rest:
        yield replace(rest)
