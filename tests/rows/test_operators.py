"""Operators that torch's own exporter of row 8.6 writes wrong, against PyTorch in ONNX Runtime."""

import re
import subprocess

import pytest

from trtyard.system.uv import ROOT


@pytest.mark.parametrize(("operators", "least"), [("softplus", 50), ("shift", 30), ("sum", 40)])
def test_operators_of_row_8_6_are_pytorchs(environment_of, operators, least):
    done = subprocess.run(
        [environment_of("8.6").python, ROOT / "tests/rows/compare_operators.py", operators],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    agreed = re.fullmatch(r"(\d+) cases agree\n", done.stdout)
    assert agreed
    assert int(agreed[1]) > least
