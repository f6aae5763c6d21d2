import subprocess
import sys
from pathlib import Path

import pytest
from gpu_kernels import Kernels
from sanitizer import FOUND, sanitizer

EXERCISE = Path(__file__).with_name("exercise.py")


def exercise(
    *prefix: str, library: Path, plant: bool = False
) -> "subprocess.CompletedProcess[str]":
    command = [*prefix, sys.executable, str(EXERCISE), str(library)] + (
        ["--plant"] if plant else []
    )
    return subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_exercise_agrees_with_the_reference(kernels: Kernels) -> None:
    done = exercise(library=kernels.path)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_sanitizer_finds_nothing(kernels: Kernels, tool: str) -> None:
    done = exercise(*sanitizer(tool), library=kernels.path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "ERROR SUMMARY: 0 errors" in done.stdout or "0 hazards" in done.stdout, done.stdout


def test_memcheck_finds_a_workspace_that_is_too_small(kernels: Kernels) -> None:
    done = exercise(*sanitizer("memcheck"), library=kernels.path, plant=True)
    assert done.returncode == FOUND, done.stdout[-3000:]
    assert "Invalid __global__" in done.stdout
