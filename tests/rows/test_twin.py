"""The custom ops in standard ops of opset 11, in the oldest ONNX Runtime, against torch."""

import os
import re
import subprocess

import pytest
from old_python import UTF8

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import make_environment
from trtyard.system.interpreters import find_python
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT


def test_oldest_onnxruntime_matches_torch():
    row = read_matrix(MATRIX_FILE).row("7.0")
    try:
        find_python(row.host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    python = make_environment(row, read_lock(LOCK_FILE).row(row.name)).python
    done = subprocess.run(
        [python, ROOT / "tests" / "rows" / "compare_bodies.py"],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **UTF8},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    agreed = re.fullmatch(r"(\d+) cases agree\n", done.stdout)
    assert agreed
    assert int(agreed[1]) > 500
