"""The main job, whole: the command line, every stage, and the files that it leaves."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from default_row import ROW as DEFAULT_ROW

from trtyard.core.cuda_device import usable_device
from trtyard.core.report import HTML_FILE, JUNIT_FILE, RUN_FILE
from trtyard.known_failures.advice import advised
from trtyard.pipeline import artifacts, cli
from trtyard.pipeline import convert as convert_module
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.tensorrt.driver_rtx import plugin_layers_in_plan
from trtyard.report.reading import report_of

ROOT = Path(__file__).resolve().parents[2]
RUNS_ON = ["8.0", "8.6", "8.9", "12.0", "12.1"]
ROW = {**DEFAULT_ROW, "runs_on": RUNS_ON}
VARIABLES = {
    "PYTHONPATH": str(ROOT),
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
}


@pytest.fixture(scope="module")
def row_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("row") / "row.json"
    file.write_text(json.dumps(ROW))
    return file


def command(row_file, model, out, *options):
    fixed = ["--row-file", str(row_file), "--out", str(out), "--executor", "host"]
    return [sys.executable, "-m", "trtyard.pipeline", "convert", "--model", model, *fixed, *options]


def convert(row_file, model, out, *options, cwd=ROOT, **environment):
    done = subprocess.run(
        command(row_file, model, out, *options),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**VARIABLES, **environment},
    )
    file = out / "report.json"
    return done, json.loads(file.read_text()) if file.exists() else None


def status_of(report):
    return {stage["name"]: stage["status"] for stage in report["stages"]}


def failed_stage(report):
    """Return the stage that failed, as the host shows it."""
    (failed,) = [
        stage for stage in advised(report_of(report), ()).stages if stage.status == "failed"
    ]
    return failed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def alexnet(row_file, home, tmp_path_factory):
    out = tmp_path_factory.mktemp("alexnet")
    return (*convert(row_file, "alexnet", out, HOME=str(home)), out)


def test_nothing_is_written_into_the_users_home(alexnet, home):
    assert list(home.iterdir()) == []


def test_alexnet_agrees_to_a_millionth(alexnet):
    done, report, _ = alexnet
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in report["parity"] if row["pair"] == ["torch", "onnxruntime"]]
    assert row["elements"] == 1000
    assert 0 < row["max_abs"] <= 1e-6


def test_normal_output_has_no_warnings(alexnet):
    done, _, _ = alexnet
    assert done.stderr == ""
    assert "Warning" not in done.stdout


def test_stages_that_need_a_gpu_are_skipped(alexnet):
    device, reason = usable_device(RUNS_ON)
    if device is not None:
        pytest.skip("this machine has a device that runs engines")
    done, report, _ = alexnet
    (stage,) = [stage for stage in report["stages"] if stage["name"] == "tensorrt"]
    assert stage == {"name": "tensorrt", "status": "not-run", "reason": reason}
    assert "not run" in done.stdout


@pytest.fixture(scope="module")
def detector(row_file, plugin_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("detector")
    options = ["--size", "256", "--top-n", "60", "--plugin-cache", str(plugin_cache)]
    return (*convert(row_file, "faster_rcnn", out, *options), out)


def test_the_detector_converts_and_every_detection_matches(detector):
    done, report, out = detector
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = [row for row in report["detections"] if row["pair"] == ["torch", "onnxruntime"]]
    assert found["reference"] == found["matched"] == found["labels_equal"] > 0
    assert found["worst_score_diff"] <= 1e-3
    assert report["engine"]["plugin_layers"] == ["PaddedNMS", "MaskRcnnROIAlign", "PaddedNMS"]
    pages = {HTML_FILE, JUNIT_FILE, RUN_FILE}
    made = {*artifacts.ALL} - {artifacts.TWIN, artifacts.ONNX_DATA, *artifacts.REDUCED} - pages
    made -= {*artifacts.CASES}
    assert made - {artifacts.ENGINE_LAYERS} <= {path.name for path in out.iterdir()} <= made


@pytest.mark.slow
def test_other_opset_is_used_and_reported(row_file, tmp_path):
    out = tmp_path / "out"
    done, report = convert(
        row_file, "squeezenet1_1", out, "--size", "64", "--opset", "20", "--until", "onnx"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["opset"] == 20
    assert "--opset 20" in report["command"]
    (standard,) = [
        one for one in onnx.load(str(out / artifacts.ONNX)).opset_import if not one.domain
    ]
    assert standard.version == 20


@pytest.mark.slow
def test_segmenter_dict_keys_become_outputs(row_file, tmp_path):
    out = tmp_path / "out"
    done, report = convert(row_file, "lraspp_mobilenet_v3_large", out, "--size", "96")
    assert done.returncode == 0, done.stdout + done.stderr
    (parity,) = report["parity"]
    assert (parity["output"], parity["elements"], parity["passed"]) == ("out", 21 * 96 * 96, True)
    assert status_of(report)["engine"] == "passed"


@pytest.mark.slow
def test_torchvision_detector_agrees_and_names_missing_ops(row_file, tmp_path):
    out = tmp_path / "out"
    model = "fasterrcnn_mobilenet_v3_large_320_fpn"
    done, report = convert(row_file, model, out, "--size", "96", "--detections", "dynamic")
    assert done.returncode == 4, done.stdout + done.stderr
    assert report["exporter"] == "torchscript"
    (found,) = report["detections"]
    assert found["passed"]
    assert found["matched"] == found["reference"] > 5
    assert status_of(report)["engine"] == "failed"
    failed = failed_stage(report)
    assert "why: this TensorRT has no NonZero" in failed.reason
    assert "supported by: TensorRT 8.5 and newer, not TensorRT for RTX" in failed.reason
    assert "as the model faster_rcnn does" in failed.hint
    assert "why: " not in json.dumps(report["stages"])
    assert (out / artifacts.OVERLAY).is_file()


@pytest.mark.slow
def test_one_stage_detector_becomes_an_engine(row_file, plugin_cache, tmp_path):
    # static_detectors/test_one_stage.py builds the engines of the others.
    out = tmp_path / "out"
    options = ["--size", "300", "--plugin-cache", str(plugin_cache)]
    done, report = convert(row_file, "ssd300_vgg16", out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["exporter"] == "torchscript"
    (found,) = report["detections"]
    assert found["passed"]
    assert found["matched"] == found["reference"] > 5
    assert report["engine"]["plugin_layers"] == ["PaddedNMS"]
    assert status_of(report)["engine"] == "passed"
    outputs = {one["name"]: one["shape"] for one in report["signature"]["outputs"]}
    rows = outputs["scores"][0]
    assert outputs == {"boxes": [rows, "4"], "scores": [rows], "labels": [rows], "count": ["1"]}
    assert (out / artifacts.OVERLAY).is_file()


def test_engine_and_note_belong_together(detector):
    _, report, out = detector
    plan = (out / artifacts.ENGINE).read_bytes()
    note = json.loads((out / artifacts.ENGINE_NOTE).read_text())
    assert sorted(plugin_layers_in_plan(plan)) == sorted(report["engine"]["plugin_layers"])
    assert note["engine"] == report["artifacts"][artifacts.ENGINE]
    assert note["built_from"][artifacts.ONNX] == report["artifacts"][artifacts.ONNX]["sha256"]
    assert note["runs_on"] == RUNS_ON
    assert b"tf32=0" in plan
    assert b"tf32=1" not in plan


def test_file_equals_module_on_a_new_picture(detector):
    _, _, out = detector
    model = load_model("faster_rcnn", size=256, top_n=60)
    images = model.inputs[0].flip(-2) * 0.9
    with torch.no_grad():
        expected = dict(zip(model.output_names, model.module(images)))
    session = onnxruntime.InferenceSession(
        str(out / artifacts.ONNX), providers=["CPUExecutionProvider"]
    )
    actual = dict(
        zip(model.output_names, session.run(list(model.output_names), {"images": images.numpy()}))
    )
    assert int(expected["count"]) > 0
    for name in ("count", "labels", "proposals"):
        np.testing.assert_array_equal(actual[name], expected[name].numpy())
    np.testing.assert_allclose(actual["boxes"], expected["boxes"].numpy(), atol=0.05)
    np.testing.assert_allclose(actual["scores"], expected["scores"].numpy(), atol=1e-3)


NETS = """
import torch
from torch import nn

class NonZero(nn.Module):
    def forward(self, image):
        return image[image > 0]

class Small(nn.Module):
    def forward(self, image):
        return (image * 2).relu()
"""


@pytest.mark.slow
def test_failed_stage_removes_files_of_earlier_runs(row_file, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    out = tmp_path / "out"
    options = ["--input", "3x4"]
    done, report = convert(row_file, "nets.py:Small", out, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status_of(report)["engine"] == "passed"
    assert (out / artifacts.ENGINE).exists()

    done, report = convert(row_file, "nets.py:NonZero", out, *options, cwd=tmp_path)
    assert done.returncode == 4
    assert status_of(report)["engine"] == "failed"
    assert not (out / artifacts.ENGINE).exists()
    assert not (out / artifacts.ENGINE_NOTE).exists()
    assert "op: NonZero" in done.stderr
    assert "nets.py:7 in forward: return image[image > 0]" in done.stderr
    assert "masks with torch.where" in failed_stage(report).hint


def test_foreign_files_are_not_replaced(row_file, tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    (tmp_path / "junit.xml").write_text("of my own tests")
    done, _ = convert(row_file, "alexnet", tmp_path)
    assert done.returncode == 2
    assert "has model.onnx, junit.xml but no report.json" in done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.onnx": "mine",
        "junit.xml": "of my own tests",
    }


def test_internal_error_is_not_a_parity_failure(monkeypatch, row_file, capsys, tmp_path):
    def fails(_row, _request, _where):
        raise ZeroDivisionError("never thought of")

    monkeypatch.setattr(convert_module, "convert", fails)
    words = command(row_file, "alexnet", tmp_path)
    assert cli.main(words[words.index("convert") :]) == 4
    said = capsys.readouterr().err
    assert "ZeroDivisionError: never thought of" in said
    assert "trtyard: this is a bug in trtyard" in said


def test_wrong_usage_exits_with_2_and_writes_nothing(row_file, tmp_path):
    out = tmp_path / "out"
    done, _ = convert(row_file, "alexnett", out)
    assert done.returncode == 2
    assert "alexnet" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("stage", ["export", "engine"])
def test_interrupt_leaves_the_folder_unchanged(row_file, tmp_path, stage):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("{}")
    process = subprocess.Popen(
        command(row_file, "alexnet", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**VARIABLES, "PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        if line.startswith(stage):
            break
    time.sleep(0.5)
    for _ in range(20):  # into the tidying up too, which must go on
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "trtyard: interrupted; no incomplete files are left\n"
    assert [path.name for path in out.iterdir()] == ["report.json"]
    assert (out / "report.json").read_text() == "{}"


@pytest.mark.slow
def test_stop_after_onnx_does_not_import_tensorrt(row_file, tmp_path):
    absent = tmp_path / "absent"  # stands before the real one, and cannot be imported
    absent.mkdir()
    for name in ("tensorrt", "tensorrt_rtx_bindings", "tensorrt_rtx"):
        (absent / f"{name}.py").write_text(f"raise ImportError('{name} is absent')\n")
    out = tmp_path / "out"
    done, report = convert(
        row_file, "alexnet", out, "--until", "onnx", PYTHONPATH=f"{absent}:{ROOT}"
    )
    assert done.returncode == 0, done.stderr
    status = status_of(report)
    assert [name for name in status if status[name] == "passed"] == [
        "torch",
        "export",
        "onnxruntime",
    ]
    left_out = [each for each in report["stages"] if each["status"] == "not-run"]
    assert [each["name"] for each in left_out] == ["plugins", "engine", "tensorrt"]
    assert {each["reason"] for each in left_out} == {"asked to stop after onnx"}
    assert not (out / artifacts.ENGINE).exists()
    assert all(row["passed"] for row in report["parity"])
