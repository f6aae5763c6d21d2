"""The tests and linters of trtyard itself, each in the environment it needs."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from trtyard.command import Word, run
from trtyard.console import say
from trtyard.convert import row_and_lock
from trtyard.environments.environment import make_environment
from trtyard.environments.pycuda import has_cuda_device
from trtyard.executors.host import pipeline_variables
from trtyard.pipeline.errors import UsageError
from trtyard.tools import ROOT

Part = Literal["host", "pipeline", "rows", "docker", "gpu"]
REQUIRE_DOCKER = "TRTYARD_REQUIRE_DOCKER"  # 1: a missing engine is a failure, as in CI
_NO_TESTS = 5  # pytest's exit code when it selected none


def run_tests(row: str, only: str, words: Sequence[str]) -> int:
    """Run the parts (or just ``only``) one after the other; return 0 if none failed.

    ``words`` go to pytest. A part that cannot run here is said to be so, and is not a success of
    anything: the last lines list what ran and what did not.
    """
    if only and only not in get_args(Part):
        raise UsageError(f"--only must be one of {', '.join(get_args(Part))}, not {only!r}")
    parts: dict[str, Callable[[], int | str]] = {
        "host": lambda: _host(words),
        "pipeline": lambda: _in_row("pipeline", row, words),
        "rows": lambda: _pytest([sys.executable], "rows", words, dict(os.environ)),
        "docker": lambda: _docker(words),
        "gpu": lambda: _gpu(row, words),
    }
    results: dict[str, int | str] = {}
    for name, part in parts.items():
        if only in ("", name):
            say(f"tests/{name}")
            results[name] = part()
    for name, result in results.items():
        say(f"tests/{name}: {_in_words(result)}")
    failed = [result for result in results.values() if isinstance(result, int) and result != 0]
    none_ran = all(isinstance(result, str) or result == _NO_TESTS for result in results.values())
    # With words such as -k a part may well have no test; all of them may not.
    failed = [code for code in failed if code != _NO_TESTS or not words]
    return 1 if failed or none_ran else 0


def _host(words: Sequence[str]) -> int:
    return _pytest([sys.executable], "host", words, dict(os.environ))


def _in_row(part: Part, row: str, words: Sequence[str]) -> int | str:
    found, lock = row_and_lock(row)
    if found.host_until != "engine":
        return f"row {found.name} has no environment on the host that holds TensorRT"
    environment = make_environment(found, lock)
    return _pytest([environment.python], part, words, pipeline_variables())


def _gpu(row: str, words: Sequence[str]) -> int | str:
    if not has_cuda_device():
        return "no CUDA device on this machine"
    return _in_row("gpu", row, words)


def _docker(words: Sequence[str]) -> int | str:
    problem: str | None = importlib.import_module("trtyard.executors.docker").engine_problem()
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
    """Run every linter, whatever the ones before it say; return 1 if one complains."""
    linters: list[list[Word]] = [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
    ]
    codes = [run([sys.executable, "-m", *linter], cwd=ROOT) for linter in linters]
    return 1 if any(codes) else 0
