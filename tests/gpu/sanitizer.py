"""compute-sanitizer's command line."""

import contextlib
import shutil

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import find_nvcc
from trtyard.core.plugins.cuda_compiler import toolkit_of

FOUND = 86  # its exit code if it finds something


def sanitizer(tool: str, *options: str) -> "list[str]":
    """Return the words before a command that runs under ``tool``, or skip the test."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        with contextlib.suppress(EnvironmentLacksError):
            program = shutil.which("compute-sanitizer", path=str(toolkit_of(find_nvcc()) / "bin"))
    if program is None:
        pytest.skip("compute-sanitizer is not on PATH or in the CUDA toolkit")
    fixed = ["--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "5"]
    return [program, *fixed, *options]
