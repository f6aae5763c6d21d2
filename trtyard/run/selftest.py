"""``test`` and ``lint``: trtyard's own tests and linters, each in the environment it needs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

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


def run_tests(row: str, *, only: str, all_parts: bool, words: Sequence[str]) -> int:
    """Run the chosen parts, print a summary, and return 0 if none failed, else 1.

    The default is tests/host and tests/pipeline without slow tests. ``words`` are passed to pytest.
    """
    chosen = chosen_parts(only, all_parts=all_parts)
    quick = not only and not all_parts
    for line in downloads(row, chosen):
        say(line)
    parts: dict[Part, Callable[[], int | str]] = {
        "host": lambda: _pytest([sys.executable], "host", words, dict(os.environ)),
        "pipeline": lambda: _in_row(
            "pipeline", row, ["-m", "not slow", *words] if quick else words
        ),
        "slow": lambda: _in_row("pipeline", row, ["-m", "slow", *words]),
        "rows": lambda: _pytest([sys.executable], "rows", words, dict(os.environ)),
        "docker": lambda: _docker(words),
        "gpu": lambda: _gpu(row, words),
    }
    results: dict[Part, int | str] = {}
    if {"host", "pipeline"} <= {*chosen}:
        results |= _beside_host(parts["pipeline"], words)
    for name in chosen:
        if name not in results:
            say(_TITLES[name])
            results[name] = parts[name]()
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
        # The part pipeline includes the slow tests.
        return tuple(part for part in PARTS if part != "slow") if all_parts else DEFAULT
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in PARTS:
            raise UsageError(f"--only must be one or more of {', '.join(PARTS)}, not {name!r}")
    return tuple(
        part for part in PARTS if part in names and not (part == "slow" and "pipeline" in names)
    )


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


def _in_row(part: Part, row: str, words: Sequence[str]) -> int | str:
    found, lock = row_and_lock(row)
    if found.host_until != "engine":
        return f"row {found.name} has no TensorRT on the host"
    environment = make_environment(found, lock)
    env = pipeline_variables(environment=environment)
    if part == "pipeline":
        # The models are small: more threads only wait for each other, which takes four times the
        # processor time on a busy machine.
        env.setdefault("OMP_NUM_THREADS", "1")
    if part == "gpu" and lock.gpu_for(environment.python_version):
        folder = make_gpu_overlay(found, lock, environment.python_version).folder
        env["PYTHONPATH"] = f"{folder / MODULES}{os.pathsep}{env['PYTHONPATH']}"
    return _pytest([environment.python], part, words, {**_onnxruntime_headers(), **env})


def _onnxruntime_headers() -> dict[str, str]:
    """Return the variable that names ONNX Runtime's headers, which some tests compile with."""
    try:
        return {ONNXRUNTIME_HEADERS: str(onnxruntime_headers())}
    except TrtyardError as error:
        say(f"without {ONNXRUNTIME_HEADERS} some tests are skipped: {error.message}")
        return {}


def _beside_host(pipeline: Callable[[], int | str], words: Sequence[str]) -> dict[Part, int | str]:
    """Run the host's tests beside the pipeline's, which use one core; print their output after."""
    command = _pytest_command([sys.executable], "host", words)
    say(f"{_TITLES['pipeline']}; {_TITLES['host']} runs beside it, and its output follows")
    with tempfile.TemporaryFile() as output:
        with in_background(command, output=output.fileno(), cwd=ROOT, env=dict(os.environ)) as wait:
            of_pipeline = pipeline()
            of_host = wait()
        output.seek(0)
        say(_TITLES["host"])
        sys.stdout.flush()
        shutil.copyfileobj(output, sys.stdout.buffer)
        sys.stdout.flush()
    return {"host": of_host, "pipeline": of_pipeline}


def _gpu(row: str, words: Sequence[str]) -> int | str:
    if not has_cuda_device():
        return "no CUDA device on this machine"
    return _in_row("gpu", row, words)


def _docker(words: Sequence[str]) -> int | str:
    problem: str | None = engine_problem()
    if os.environ.get(REQUIRE_DOCKER) == "1":
        problem = None  # the tests themselves fail without Docker
    return problem or _pytest([sys.executable], "docker", words, dict(os.environ))


def _pytest(python: list[Word], part: Part, words: Sequence[str], env: dict[str, str]) -> int:
    return run(_pytest_command(python, part, words), cwd=ROOT, env=env)


def _pytest_command(python: Sequence[Word], part: Part, words: Sequence[str]) -> list[Word]:
    return [*python, "-m", "pytest", f"tests/{part}", *words]


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
