"""The Docker executor: the row's image, run with as few rights as a conversion needs.

No network, no capabilities, no new privileges, a read-only root, the caller's own user, and of
this machine only the output folder (writable) and the named inputs (read-only).
"""

import codecs
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trtyard.build.build import build, built_image, image_problems, pull_offered
from trtyard.build.identity import note_id
from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.shown_paths import replacing
from trtyard.lock.file import LockedRow, refuse_unresolved
from trtyard.matrix.row import Row
from trtyard.registry.transfer import Registry
from trtyard.render.dockerfiles import OUT_PATH, PLUGIN_LIBRARY, ROW_PATH
from trtyard.run.job import Job
from trtyard.run.limits import Limits, Watch, limits_of
from trtyard.system.docker_engine import connect, docker_command, has_nvidia_runtime, made_container
from trtyard.system.plain_text import Plain
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

INPUTS_PATH = "/mnt/inputs"
# torch maps what it compiles, so files there must be executable. Its memory counts as the
# container's; the model files themselves go to the output folder.
TEMPORARY_PATH = "/tmp"  # noqa: S108 - inside the container
TEMPORARY = "rw,exec,nosuid,nodev,mode=1777,size="
# What a user sets in front of the command to look into a failure, or to spare the machine.
PASSED_ON = (
    *("PYTHONFAULTHANDLER", "TORCH_LOGS", "TORCH_SHOW_CPP_STACKTRACES", "TORCHDYNAMO_VERBOSE"),
    *("CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)
# How long the pipeline may take to remove what it has half written.
GRACE_SECONDS = 10
LABEL = "trtyard.convert"
OUT_LABEL = "trtyard.out"  # the folder that the container writes into, for people
FOLDER_LABEL = "trtyard.folder"  # the same by what it is, whatever its names
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def engine_problem() -> str | None:
    """Return why no Docker engine can be used here, or None."""
    try:
        connect()
    except EnvironmentLacksError as error:
        return error.message
    return None


def why_not(row: Row, locked: LockedRow) -> str | None:
    """Return why the row cannot run in Docker as things are, or None. Quick, no writes."""
    if "docker" not in row.executors:
        return f"row {row.name} has no image"
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
    """Return what would run, and what would have to be made first."""
    image = built_image(connect(), row, locked)
    if image is None:
        refuse_unresolved(locked)
    return f"a container of {image}" if image else "the row's image, which is built first"


def pull_if_missing(row: Row, locked: LockedRow) -> None:
    """Pull the row's image if a registry is configured and has what is not here."""
    if Registry.configured() is None or "docker" not in row.executors:
        return
    try:
        client = connect()
        if built_image(client, row, locked) is None:
            pull_offered(client, docker_command(), row, locked)
    except EnvironmentLacksError as error:
        say(f"the image was not pulled: {error.message}")


def convert(job: Job) -> int:
    """Run the job in the row's image, which is built first where it is missing."""
    client = connect()
    image = built_image(client, job.row, job.locked)
    if image is None:
        image = build(job.row.name)
    else:
        note_id(client, image)
    places = places_of(job)
    names = {place: str(path) for path, place in places.items()}
    library = {} if job.plugins else {"plugins": PLUGIN_LIBRARY}
    words = job.arguments("docker", ROW_PATH, lambda path: places[path], **library)
    for place, path in names.items():
        words += ["--shown-as", place, path]
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


def places_of(job: Job) -> dict[Path, str]:
    """Return where each folder and file of this machine is in the container."""
    places = {job.out: OUT_PATH}
    for number, path in enumerate(dict.fromkeys(job.inputs())):
        places[path] = str(PurePosixPath(INPUTS_PATH, str(number), path.name or "root"))
    return places


def end_orphans(out: Path) -> None:
    """Remove the containers of killed runs into ``out``, by whatever name these called it.

    The caller holds ``out``, so no run that is alive has one. Without an engine that answers there
    is nothing to remove here.
    """
    from docker.errors import APIError

    try:
        client = connect()
    except EnvironmentLacksError:
        return
    with closing(client):
        wanted = {"label": f"{FOLDER_LABEL}={_identity(out)}"}
        for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
            say(f"removing container {container.short_id} of a run into {out} that was killed")
            with suppress(APIError):
                container.remove(force=True)


def _identity(folder: Path) -> str:
    """Return what a folder has whatever links and mounts lead to it, as long as this system runs.

    An engine may serve several machines, whose numbers are the same.
    """
    facts = folder.stat()
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""
    return f"{boot}:{facts.st_dev}:{facts.st_ino}"


def caller_on(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make the container's files the caller's, by the engine's ``info``.

    A rootless engine's root is the user who runs it, and any other number is someone who may not
    write what that user owns. An engine that maps users maps none where it is told so.
    """
    options = {str(one).partition(",")[0] for one in engine.get("SecurityOptions") or ()}
    if "name=rootless" in options:
        return {"user": "0:0"}
    caller: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}
    if "name=userns" in options:
        caller["userns_mode"] = "host"
    return caller


def settings_of(job: Job, places: Mapping[Path, str], limits: Limits) -> dict[str, Any]:
    """Return docker-py's settings for the container: what it may do and take, and what it sees."""
    from docker.types import Mount

    # Not "volumes": these take no colon in a path, and make a folder where there is none.
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
    """Start a container, and give it with its output.

    On the way out, however that happens, it is stopped and removed.
    """
    from docker.errors import APIError

    with made_container(client, image, words, **settings) as container:
        try:
            # Before it starts: one that ends meanwhile may never say so to who comes later.
            with _attached(container) as attached:
                try:
                    container.start()
                except APIError as error:
                    raise _start_error(str(error.explanation)) from None
                yield container, _output(attached)
        except BaseException:
            # As Ctrl-C would: the pipeline removes what it has half written.
            with suppress(APIError, OSError):
                container.kill(signal=signal.SIGINT)
                container.wait(timeout=GRACE_SECONDS)
            raise


@contextmanager
def _attached(container: "Container") -> Iterator[Iterable[bytes]]:
    """Give the output that is to come. By itself docker's client leaves its connection open."""
    from docker.errors import DockerException

    stream = container.attach(stream=True, logs=False)
    try:
        yield stream
    finally:
        # The other side may have closed it already; over ssh it cannot be ended like this.
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
            f"the Docker engine went away while the container ran: {error}",
            "sudo systemctl restart docker, then the same command again",
        ) from None


def _start_error(said: str) -> EnvironmentLacksError:
    if "nvidia" in said.lower():
        return EnvironmentLacksError(
            f"the engine could not pass the GPU into the container: {said}",
            "nvidia-smi   shows whether the driver works; without a GPU: --in host",
        )
    return EnvironmentLacksError(f"the container could not be started: {said}")


def _all_gpus() -> list[Any]:
    from docker.types import DeviceRequest

    return [DeviceRequest(count=-1, capabilities=[["gpu"]])]


def _translated(pieces: Iterable[bytes], names: Mapping[str, str]) -> Iterator[str]:
    """Yield the container's output line by line, its paths as they are on this machine.

    Terminal codes are taken out.
    """
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    replace = replacing(names)
    plain, rest = Plain(), ""
    for piece in pieces:
        *lines, rest = (rest + decode(plain.feed(piece))).split("\n")
        yield from (replace(line) + "\n" for line in lines)
    rest += decode(plain.rest())
    if rest:
        yield replace(rest)
