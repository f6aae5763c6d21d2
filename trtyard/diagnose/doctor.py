"""``doctor``: check whether this machine can build and run a row's engines."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.build.build import DISK_PER_WHEEL_BYTE, built_image, image_problems
from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.diagnose.model_check import check_model
from trtyard.diagnose.nvidia import driver_verdict, gpu_verdict
from trtyard.diagnose.verdicts import Verdict, ok, problem, unknown
from trtyard.lock.file import LockedRow, refuse_unresolved
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.row import Row
from trtyard.run.clean import old_environments
from trtyard.run.environment import UNPACKED, existing_environment
from trtyard.system.docker_engine import connect, docker_command, has_nvidia_runtime
from trtyard.system.interpreters import find_python
from trtyard.system.processes import CommandError, output_of
from trtyard.system.terminal import show
from trtyard.system.uv import GIGA, ROOT, YARD, uv

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The verdicts about Docker, or about the host, and whether the row can run there."""

    verdicts: tuple[Verdict, ...]
    usable: bool


def doctor(row_name: str, *, model: str = "", input_shape: str = "", size: str = "") -> int:
    """Print all verdicts; return 0 if the row can build engines on this machine, else 3.

    With a model, check its ops too; return 4 if the row does not support one of them.
    """
    row, lock = row_and_lock(row_name)
    docker, host = _docker(row, lock), _host(row, lock)
    device = [driver_verdict(row), gpu_verdict(row)]
    for verdict in (*docker.verdicts, *host.verdicts, *device, *_caches()):
        show(verdict.in_words())
    able = _conclusion(row, docker=docker, host=host, device=device)
    if not model:
        return 0 if able else EnvironmentLacksError.exit_code
    show("")
    code = check_model(row, lock, model, input_shape=input_shape, size=size)
    return code if able else EnvironmentLacksError.exit_code


def _conclusion(row: Row, *, docker: _Place, host: _Place, device: list[Verdict]) -> bool:
    """Print the summary; return whether engines can be built on this machine."""
    places = [
        name for name, place in (("in Docker", docker), ("on the host", host)) if place.usable
    ]
    has_device = all(verdict.state == "ok" for verdict in device)
    builds = ["in Docker"] if docker.usable else []
    builds += ["on the host"] if host.usable and row.host_until == "engine" else []
    able = bool(builds) and (row.flavour == "rtx" or has_device)
    show("")
    if able:
        run = "and run" if has_device else "but not run"
        show(f"row {row.name} can build {run} engines on this machine, {' and '.join(builds)}")
    elif places:
        lacking = "TensorRT is missing" if not builds else "TensorRT builds on a GPU only"
        show(
            f"row {row.name} can export to ONNX on this machine, {' and '.join(places)}; {lacking}"
        )
        show(f"  ./run convert --model M --trt {row.name} --until onnx")
    else:
        show(f"row {row.name} cannot run on this machine")
    return able


def _docker(row: Row, lock: LockedRow) -> _Place:
    if "docker" not in row.executors:
        return _Place(verdicts=(), usable=False)
    try:
        client = connect()
    except EnvironmentLacksError as error:
        return _Place(verdicts=(problem("Docker", error.message, error.hint),), usable=False)
    verdicts = [ok("Docker", f"version {client.version().get('Version', '')} is running")]
    image = built_image(client, row, lock)
    buildx = _buildx()
    if image:
        verdicts += [buildx, ok("image", f"{image} is built")]
    elif problems := image_problems(client, row, lock):
        rebuild = f"build it again: ./run build --trt {row.name}"
        verdicts += [buildx, *(problem("image", one, rebuild) for one in problems)]
    else:
        verdicts += [buildx, *_image(client, row, lock)]
    device = gpu_verdict(row)
    if device.state == "ok" and not has_nvidia_runtime(client):
        verdicts.append(
            problem(
                "Docker's GPU",
                "Docker cannot pass GPUs into containers: it has no nvidia runtime",
                "install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure",
            )
        )
    fine = all(verdict.state != "problem" for verdict in verdicts)
    return _Place(verdicts=tuple(verdicts), usable=bool(image) or fine)


def _buildx() -> Verdict:
    try:
        command = docker_command()
    except EnvironmentLacksError as error:
        return problem("BuildKit", error.message, error.hint)
    try:
        words = output_of([command, "buildx", "version"]).split()
    except CommandError as error:
        return unknown("BuildKit", error.message)
    return ok("BuildKit", f"buildx {words[1] if len(words) > 1 else ''} ({command})")


def _image(client: "DockerClient", row: Row, lock: LockedRow) -> list[Verdict]:
    """Return the verdicts about building the row's image, which does not exist yet."""
    try:
        refuse_unresolved(lock)
    except TrtyardError as error:
        return [problem("image", " ".join(error.message.split()), error.hint)]
    folder = Path(str(client.info().get("DockerRootDir", "")))
    packed = sum(wheel.size for wheel in lock.wheels_for(row.python))
    needed = DISK_PER_WHEEL_BYTE * packed
    not_built = ok("image", f"not built yet: ./run build --trt {row.name}")
    if not folder.is_dir():
        return [not_built, unknown("Docker's disk", f"{folder} is not on this machine")]
    return [
        not_built,
        _disk(
            "Docker's disk",
            folder,
            needed,
            "show Docker's disk usage: docker system df;"
            " free its cache: docker builder prune --all",
        ),
    ]


def _host(row: Row, lock: LockedRow) -> _Place:
    if "host" not in row.executors:
        return _Place(verdicts=(), usable=False)
    ready = existing_environment(row, lock)
    if ready is not None:
        verdict = ok("environment", f"Python {ready.python_version}, in {_short(ready.folder)}")
        return _Place(verdicts=(verdict,), usable=True)
    try:
        version, python = find_python(row.host_pythons)
    except EnvironmentLacksError as error:
        return _Place(verdicts=(problem("interpreter", error.message, error.hint),), usable=False)
    packed = sum(wheel.size for wheel in lock.wheels_for(version))
    verdicts = (
        ok("interpreter", f"Python {version}, {python}"),
        ok("environment", "not made yet; convert makes it"),
        _disk("disk", YARD, int(packed * UNPACKED), "show trtyard's disk usage: ./run clean"),
    )
    return _Place(verdicts=verdicts, usable=all(verdict.state != "problem" for verdict in verdicts))


def _disk(subject: str, folder: Path, needed: int, hint: str) -> Verdict:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    words = f"{free / GIGA:.0f} GB free at {folder}, {needed / GIGA:.1f} GB needed at most"
    return ok(subject, words) if free >= needed else problem(subject, words, hint)


def _caches() -> list[Verdict]:
    old = old_environments()
    verdicts = []
    if old:
        verdicts.append(
            problem("environments", f"{len(old)} outdated, from earlier locks", "./run clean --old")
        )
    try:
        cache = Path(output_of([uv(), "cache", "dir"]).strip())
    except (CommandError, EnvironmentLacksError) as error:
        return [*verdicts, unknown("uv's cache", error.message)]
    if not cache.exists():
        return [*verdicts, ok("uv's cache", f"none yet at {cache}")]
    there = YARD if YARD.exists() else ROOT
    if cache.stat().st_dev != there.stat().st_dev:
        words = f"{cache} is not on the same disk as {there}: packages are copied, not hard-linked"
        return [*verdicts, ok("uv's cache", words)]
    return [*verdicts, ok("uv's cache", f"{cache}; packages are hard-linked from it")]


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)
