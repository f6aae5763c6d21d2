"""``test`` and ``lint``: trtyard's own tests and linters, each in the environment it needs."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from trtyard.build.build import DISK_PER_WHEEL_BYTE, built_image, bytes_of
from trtyard.core.errors import EnvironmentLacksError, TrtyardError, UsageError
from trtyard.core.packages import MODULES
from trtyard.lock.file import Artifact
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import UNPACKED, environment_of, make_environment
from trtyard.run.in_docker import engine_problem
from trtyard.run.on_host import pipeline_variables
from trtyard.run.onnxruntime_headers import onnxruntime_headers
from trtyard.run.overlay import make_gpu_overlay
from trtyard.run.pycuda import has_cuda_device
from trtyard.system.docker_engine import connect
from trtyard.system.interpreters import find_python
from trtyard.system.processes import Word, in_background, run
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, MATRIX_FILE, ROOT

Part = Literal["host", "pipeline", "slow", "rows", "docker", "gpu"]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT: tuple[Part, ...] = ("host", "pipeline")
REQUIRE_DOCKER = "TRTYARD_REQUIRE_DOCKER"  # 1: without Docker the tests fail, as in CI
ONNXRUNTIME_HEADERS = "TRTYARD_ONNXRUNTIME_HEADERS"
_NO_TESTS = 5  # pytest's exit code when it selected none
_POLL_SECONDS = 0.1
_ENDED = object()


def run_tests(row: str, *, only: str, all_parts: bool, words: Sequence[str]) -> int:
    """Run the chosen parts, print a summary, and return 0 if none failed, else 1.

    The default is tests/host and tests/pipeline without slow tests. ``words`` are passed to pytest.
    """
    chosen = chosen_parts(only, all_parts=all_parts)
    quick = not only and not all_parts
    for line in downloads(row, chosen):
        say(line)
    without_slow = quick or "slow" in chosen
    planned = {
        name: _plan(
            name, row, ["-m", "not slow", *words] if name == "pipeline" and without_slow else words
        )
        for name in chosen
    }
    results: dict[Part, int | str] = {}
    _run([name for name in _TWO_AT_A_TIME if name in chosen], planned, results)
    _run([name for name in chosen if name not in results], planned, results)
    for name in chosen:
        say(f"{_TITLES[name]}: {_in_words(results[name])}")
    if quick:
        left_out = ", ".join(_TITLES[name] for name in PARTS if name not in DEFAULT)
        say(f"not selected: {left_out}. All tests: ./run test --all")
    failed = [result for result in results.values() if isinstance(result, int) and result != 0]
    none_ran = all(isinstance(result, str) or result == _NO_TESTS for result in results.values())
    # With words such as -k a part may have no test, but not all parts.
    failed = [code for code in failed if code != _NO_TESTS or not words]
    return 1 if failed or none_ran else 0


class _Command(NamedTuple):
    """A part's pytest command and its variables."""

    words: list[Word]
    env: dict[str, str]


# Each part uses about one core. Longer ones come first, so that both cores are busy to the end.
_TWO_AT_A_TIME: tuple[Part, ...] = ("docker", "slow", "rows", "pipeline", "host")
# The models are small: more threads only wait for each other, which takes up to four times the
# processor time on a busy machine.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_TITLES: dict[Part, str] = {
    "host": "tests/host",
    "pipeline": "tests/pipeline",
    "slow": "slow tests of tests/pipeline",
    "rows": "tests/rows",
    "docker": "tests/docker",
    "gpu": "tests/gpu",
}


def chosen_parts(only: str, *, all_parts: bool) -> tuple[Part, ...]:
    """Return the parts to run, in their usual order; ``UsageError`` for an unknown name."""
    if not only:
        return PARTS if all_parts else DEFAULT
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in PARTS:
            raise UsageError(f"--only must be one or more of {', '.join(PARTS)}, not {name!r}")
    return tuple(part for part in PARTS if part in names)


def downloads(row: str, parts: Sequence[Part]) -> Iterator[str]:
    """Yield lines about what the parts download first, with the sizes from the lock.

    The sizes are upper limits: package caches are not considered.
    """
    matrix = read_matrix(MATRIX_FILE)
    names = [row] if {"pipeline", "slow", "gpu"} & {*parts} else []
    names += matrix.rows if "rows" in parts else []
    lacking: dict[str, tuple[Artifact, ...]] = {}
    for name in names:
        found, lock = row_and_lock(name)
        try:
            version, _ = find_python(one for one in found.pythons if one in found.host_pythons)
        except EnvironmentLacksError as error:
            yield f"row {found.name}: {error.message}; its tests are skipped"
            continue
        environment = environment_of(found, lock, version)
        if not environment.is_whole():
            lacking[found.name] = environment.wheels
    if lacking:
        wheels = [wheel for each in lacking.values() for wheel in each]
        fetched = bytes_of({wheel.sha256: wheel for wheel in wheels}.values())
        yield (
            f"environments to make, of row {', '.join(lacking)}: up to"
            f" {fetched / GIGA:.1f} GB to download,"
            f" {bytes_of(wheels) * UNPACKED / GIGA:.1f} GB on disk"
        )
    if "docker" in parts:
        yield from _image_downloads()


def _image_downloads() -> Iterator[str]:
    row, lock = row_and_lock("default")
    if engine_problem() is not None:
        return  # the part itself reports it
    with closing(connect()) as client:
        if built_image(client, row, lock) is not None:
            return
    wheels = lock.wheels_for(row.python)
    fetched = bytes_of([*wheels, *lock.sdists_for(row.python), *lock.debs])
    yield (
        f"image to build, of row {row.name}: up to {fetched / GIGA:.1f} GB to download,"
        f" {bytes_of(wheels) * DISK_PER_WHEEL_BYTE / GIGA:.0f} GB on disk"
    )


def _plan(part: Part, row: str, words: Sequence[str]) -> _Command | str:
    """Return the part's pytest command, or the reason why it cannot run."""
    if part in ("pipeline", "slow", "gpu"):
        return _in_row(part, row, words)
    # With TRTYARD_REQUIRE_DOCKER the tests themselves fail without Docker.
    if part == "docker" and os.environ.get(REQUIRE_DOCKER) != "1" and (problem := engine_problem()):
        return problem
    env = {**_ONE_THREAD, **os.environ} if part in ("rows", "docker") else dict(os.environ)
    return _Command([sys.executable, "-m", "pytest", f"tests/{part}", *words], env)


def _in_row(part: Part, row: str, words: Sequence[str]) -> _Command | str:
    if part == "gpu" and not has_cuda_device():
        return "no CUDA device on this machine"
    found, lock = row_and_lock(row)
    if found.host_until != "engine":
        return f"row {found.name} has no TensorRT on the host"
    environment = make_environment(found, lock)
    env = pipeline_variables(environment=environment)
    if part != "gpu":
        env = {**_ONE_THREAD, **env}
    elif lock.gpu_for(environment.python_version):
        folder = make_gpu_overlay(found, lock, environment.python_version).folder
        env["PYTHONPATH"] = f"{folder / MODULES}{os.pathsep}{env['PYTHONPATH']}"
    selected = ["tests/pipeline", "-m", "slow"] if part == "slow" else [f"tests/{part}"]
    return _Command(
        [environment.python, "-m", "pytest", *selected, *words], {**_onnxruntime_headers(), **env}
    )


def _onnxruntime_headers() -> dict[str, str]:
    """Return the variable that names ONNX Runtime's headers, which some tests compile with."""
    try:
        return {ONNXRUNTIME_HEADERS: str(onnxruntime_headers())}
    except TrtyardError as error:
        say(f"without {ONNXRUNTIME_HEADERS} some tests are skipped: {error.message}")
        return {}


def _run(
    names: Sequence[Part],
    planned: Mapping[Part, _Command | str],
    results: dict[Part, int | str],
) -> None:
    """Run the parts in this order, two at a time, and add their results.

    The output of the second of the two is printed at the end.
    """
    waiting = list(names)
    with tempfile.TemporaryFile() as output, contextlib.ExitStack() as ended:
        lanes = [
            ended.enter_context(closing(_lane(waiting, planned, results, one)))
            for one in (None, output.fileno())
        ]
        while lanes:
            lanes = [lane for lane in lanes if next(lane, _ENDED) is not _ENDED]
            time.sleep(_POLL_SECONDS if lanes else 0)
        output.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(output, sys.stdout.buffer)
        sys.stdout.flush()


def _lane(
    waiting: list[Part],
    planned: Mapping[Part, _Command | str],
    results: dict[Part, int | str],
    output: int | None,
) -> Generator[None, None, None]:
    """Run the next part that is waiting, until there is none; yields while one runs."""
    while waiting:
        name = waiting.pop(0)
        command = planned[name]
        if isinstance(command, str):
            results[name] = command
            continue
        if output is None:
            say(_TITLES[name])
        else:
            say(f"{_TITLES[name]} run in the background, and their output comes last")
            os.write(output, f"{_TITLES[name]}\n".encode())
        with in_background(command.words, output=output, cwd=ROOT, env=command.env) as child:
            while (code := child.poll()) is None:
                yield
        results[name] = code


def _in_words(result: int | str) -> str:
    if isinstance(result, str):
        return f"NOT RUN: {result}"
    return {0: "passed", _NO_TESTS: "no test was selected"}.get(result, "FAILED")


def run_linters() -> int:
    """Run all linters, even if one fails; return 1 if any failed, else 0."""
    linters: list[list[Word]] = [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
        ["codespell_lib"],
    ]
    commands: list[list[Word]] = [[sys.executable, "-m", *linter] for linter in linters]
    commands.append([Path(sys.executable).parent / "lint-imports", "--no-logo"])
    codes = [run(command, cwd=ROOT) for command in commands]
    return 1 if any(codes) else 0
