"""Rows whose TensorRT is no PyPI package, up to ONNX, on a real interpreter of their Python.

What they take from PyPI is all that this needs: the very files that the lock names.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtyard.interpreters import find_python
from trtyard.matrix import read_matrix
from trtyard.pipeline.errors import EnvironmentLacksError
from trtyard.tools import MATRIX_FILE, ROOT

ROWS = [row for row in read_matrix(MATRIX_FILE).rows.values() if row.host_until == "onnx"]


@pytest.mark.parametrize("model", ["alexnet", "faster_rcnn"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_row_exports_and_onnxruntime_agrees_with_torch(row, model, tmp_path):
    try:
        find_python(row.host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(f"{row.name}: {error.message}")
    # A folder that is named there keeps the reports: ./run verified reads them.
    out = Path(os.environ.get("TRTYARD_REPORTS") or tmp_path) / row.name / model
    words = ["convert", "--trt", row.name, "--model", model, "--out", str(out)]
    words += ["--in", "host", "--until", "onnx"]
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), *words],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    status = {stage["name"]: stage["status"] for stage in report["stages"]}
    assert status["export"] == status["onnxruntime"] == "passed"
    assert status["engine"] == status["tensorrt"] == "not-run"
    assert report["parity"]
    assert all(each["passed"] for each in report["parity"])
    assert report["versions"]["torch"].partition("+")[0] == row.packages["torch"]
    assert ".".join(report["versions"]["python"].split(".")[:2]) in row.host_pythons
    if model == "faster_rcnn":
        (found,) = report["detections"]
        assert found["matched"] == found["reference"] > 0
        assert found["labels_equal"] == found["matched"]
