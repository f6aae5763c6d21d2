"""A cheap one of each kind of torchvision's models, through a row's exporter.

docs/zoo.md has the others.
"""

import json
import subprocess
import sys

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.system.interpreters import find_python
from trtyard.system.uv import ROOT


def converted(row, model, size, out):
    try:
        find_python(row_and_lock(row)[0].host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    words = ["convert", "--trt", row, "--model", model, "--size", str(size), "--out", str(out)]
    words += ["--in", "host", "--until", "onnx"]
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "trtyard" / "__main__.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize(
    ("row", "model", "outputs"),
    [("8.6", "lraspp_mobilenet_v3_large", ["out"]), ("7.0", "inception_v3", ["logits"])],
)
def test_onnxruntime_agrees_with_torch(row, model, outputs, tmp_path):
    report = converted(row, model, 128, tmp_path / "out")
    assert [each["output"] for each in report["parity"]] == outputs
    assert all(each["passed"] and each["max_abs"] > 0 for each in report["parity"])
