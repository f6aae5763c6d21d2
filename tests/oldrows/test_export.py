"""Rows whose TensorRT cannot be had everywhere, up to ONNX, on real interpreters of their Python.

TRTYARD_ENVIRONMENTS names a folder with ROW/bin/python and ROW/row.json for each row.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = os.environ.get("TRTYARD_ENVIRONMENTS", "")

CASES = [
    ("7.0", "alexnet"),
    *((row, model) for row in ("8.6", "10.16", "11.4") for model in ("alexnet", "faster_rcnn")),
]


@pytest.mark.parametrize(("row", "model"), CASES)
def test_the_row_exports_and_onnxruntime_agrees_with_torch(row, model, tmp_path):
    if not NAMED:
        pytest.skip("TRTYARD_ENVIRONMENTS names no folder with the rows' environments")
    folder = Path(NAMED) / row
    if not (folder / "bin" / "python").exists():
        pytest.skip(f"no environment of row {row} in {NAMED}")
    words = ["convert", "--row-file", folder / "row.json", "--model", model, "--out", tmp_path]
    done = subprocess.run(
        [
            folder / "bin" / "python",
            "-m",
            "trtyard.pipeline",
            *words,
            "--executor",
            "host",
            "--until",
            "onnx",
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    status = {stage["name"]: stage["status"] for stage in report["stages"]}
    assert status["export"] == status["onnxruntime"] == "passed"
    assert status["engine"] == status["tensorrt"] == "not-run"
    assert report["parity"]
    assert all(each["passed"] for each in report["parity"])
