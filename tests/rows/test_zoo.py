"""A cheap one of each kind of torchvision's models, through a row's exporter.

docs/zoo.md has the others.
"""

import json
import subprocess
import sys

import pytest
from own_exports import has_own_exports

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.on_host import pipeline_variables
from trtyard.system.interpreters import find_python
from trtyard.system.uv import ROOT

SMALL = ROOT / "tests" / "rows" / "convert_small_detector.py"


# The others are tested in tests/pipeline.
DYNAMO = [name for name in ("10.16", "11.3") if has_own_exports(name)]


def converted(row, model, size, out):
    done = conversion(row, model, size, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "report.json").read_text())


def conversion(row, model, size, out):
    try:
        find_python(row_and_lock(row)[0].host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    words = ["convert", "--trt", row, "--model", model, "--size", str(size), "--out", str(out)]
    words += ["--in", "host", "--until", "onnx"]
    return subprocess.run(
        [sys.executable, "-I", ROOT / "trtyard" / "__main__.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("row", "model", "outputs"),
    [("8.6", "lraspp_mobilenet_v3_large", ["out"]), ("7.0", "inception_v3", ["logits"])],
)
def test_onnxruntime_agrees_with_torch(row, model, outputs, tmp_path):
    report = converted(row, model, 128, tmp_path / "out")
    assert [each["output"] for each in report["parity"]] == outputs
    assert all(each["passed"] and each["max_abs"] > 0 for each in report["parity"])


@pytest.mark.parametrize("row", ["8.6", *DYNAMO])
@pytest.mark.parametrize("model", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"])
def test_one_stage_detector_is_padded_on_each_row(row, model, tmp_path):
    size = 320 if model.startswith("ssd") else 96
    report = converted(row, model, size, tmp_path / "out")
    (found,) = report["detections"]
    assert found["passed"]
    assert found["matched"] == found["reference"] > 5
    shapes = {one["name"]: one["shape"] for one in report["signature"]["outputs"]}
    assert shapes == {"boxes": ["300", "4"], "scores": ["300"], "labels": ["300"], "count": ["1"]}


def test_detector_that_the_oldest_torchvision_lacks_is_named(tmp_path):
    done = conversion("7.0", "retinanet_resnet50_fpn", 96, tmp_path / "out")
    assert done.returncode == 2
    assert "torchvision 0.5.0 of this row has no retinanet_resnet50_fpn; of its kind" in done.stderr


@pytest.mark.parametrize(
    ("row", "model"),
    [
        *((row, "fasterrcnn_mobilenet_v3_large_320_fpn") for row in ("8.6", *DYNAMO)),
        ("7.0", "fasterrcnn_resnet50_fpn"),
    ],
)
def test_two_stage_detector_is_padded_on_each_row(row, model, tmp_path):
    assert_padded(converted(row, model, 96, tmp_path / "out"), "100")


@pytest.mark.parametrize("row", ["8.6", "7.0"])
@pytest.mark.parametrize("model", ["maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_masks_and_keypoints_are_padded_on_old_rows(environment_of, row, model, tmp_path):
    environment = environment_of(row)
    # In 96 pixels, some keypoints of row 7.0 are at another one of two equal places.
    size = 64 if model.startswith("keypoint") else 96
    words = ["convert", "--model", model, "--size", str(size), "--until", "onnx"]
    words += ["--row-file", environment.row_file, "--executor", "host"]
    done = subprocess.run(
        [environment.python, SMALL, *words, "--out", tmp_path],
        env=pipeline_variables(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"masks", "keypoints"} & {each["output"] for each in report["parity"]}
    assert_padded(report, "10")


def assert_padded(report, rows):
    (found,) = report["detections"]
    assert found["passed"]
    assert found["matched"] == found["reference"] > 5
    assert all(each["passed"] for each in report["parity"])
    outputs = report["signature"]["outputs"]
    shapes = {one["name"]: one["shape"] for one in outputs}
    assert shapes["count"] == ["1"]
    assert {shape[0] for name, shape in shapes.items() if name != "count"} == {rows}
