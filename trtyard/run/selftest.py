"""The tests and linters of trtyard itself, each in the environment it needs."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

from trtyard.build.build import DISK_PER_WHEEL_BYTE, built_image, bytes_of
from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.lock.file import Artifact
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import UNPACKED, environment_of, make_environment
from trtyard.run.in_docker import engine_problem
from trtyard.run.on_host import pipeline_variables
from trtyard.run.pycuda import has_cuda_device
from trtyard.system.docker_engine import connect
from trtyard.system.interpreters import find_python
from trtyard.system.processes import Word, run
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, MATRIX_FILE, ROOT

Part = Literal["host", "pipeline", "slow", "rows", "docker", "gpu"]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT: tuple[Part, ...] = ("host", "pipeline")
REQUIRE_DOCKER = "TRTYARD_REQUIRE_DOCKER"  # 1: a missing engine is a failure, as in CI
_NO_TESTS = 5  # pytest's exit code when it selected none


def run_tests(row: str, *, only: str, all_parts: bool, words: Sequence[str]) -> int:
    """Run the chosen parts one after the other; return 0 if none failed.

    Without ``only`` and ``all_parts`` these are the host's and the pipeline's, except those marked
    slow. ``words`` go to pytest. The last lines list what passed, what failed and what was not run.
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
    for name in chosen:
        say(_TITLES[name])
        results[name] = parts[name]()
    for name, result in results.items():
        say(f"{_TITLES[name]}: {_in_words(result)}")
    if quick:
        left_out = ", ".join(_TITLES[name] for name in PARTS if name not in DEFAULT)
        say(f"not asked for: {left_out}. All tests: ./run test --all")
    failed = [result for result in results.values() if isinstance(result, int) and result != 0]
    none_ran = all(isinstance(result, str) or result == _NO_TESTS for result in results.values())
    # With words such as -k a part may well have no test; all of them may not.
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
        # The pipeline's part then runs whole, with its slow tests.
        return tuple(part for part in PARTS if part != "slow") if all_parts else DEFAULT
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in PARTS:
            raise UsageError(f"--only must be one or more of {', '.join(PARTS)}, not {name!r}")
    return tuple(
        part for part in PARTS if part in names and not (part == "slow" and "pipeline" in names)
    )


def downloads(row: str, parts: Sequence[Part]) -> Iterator[str]:
    """Yield what the parts fetch before they can run, with the sizes in the lock.

    A package cache is not looked into, so a download takes at most what is said.
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
            f"environments to make, of row {', '.join(lacking)}: up to {fetched / GIGA:.1f} GB to"
            f" download, {bytes_of(wheels) * UNPACKED / GIGA:.1f} GB on disk"
        )
    if "docker" in parts:
        yield from _image_downloads()


def _image_downloads() -> Iterator[str]:
    row, lock = row_and_lock("default")
    if engine_problem() is not None:
        return  # the part says so itself
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
        return f"row {found.name} has no environment on the host that holds TensorRT"
    environment = make_environment(found, lock)
    env = pipeline_variables(environment=environment)
    if part == "pipeline":
        # The models are small, and threads that wait for each other take four times the processor
        # time on a busy machine.
        env.setdefault("OMP_NUM_THREADS", "1")
    return _pytest([environment.python], part, words, env)


def _gpu(row: str, words: Sequence[str]) -> int | str:
    if not has_cuda_device():
        return "no CUDA device on this machine"
    return _in_row("gpu", row, words)


def _docker(words: Sequence[str]) -> int | str:
    problem: str | None = engine_problem()
    if os.environ.get(REQUIRE_DOCKER) == "1":
        problem = None  # the tests themselves then fail for the want of an engine
    return problem or _pytest([sys.executable], "docker", words, dict(os.environ))


def _pytest(python: list[Word], part: Part, words: Sequence[str], env: dict[str, str]) -> int:
    return run([*python, "-m", "pytest", f"tests/{part}", *words], cwd=ROOT, env=env)


def _in_words(result: int | str) -> str:
    if isinstance(result, str):
        return f"NOT RUN: {result}"
    return {0: "passed", _NO_TESTS: "no test was selected"}.get(result, "FAILED")


def run_linters() -> int:
    """Run every linter, also after one has failed; return 1 if any failed, else 0."""
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
