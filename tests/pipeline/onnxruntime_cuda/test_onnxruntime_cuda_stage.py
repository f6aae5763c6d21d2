"""The stage onnxruntime-cuda: here on the CPU, with the custom ops' CPU kernels."""

import json
import os
from pathlib import Path

import pytest
from custom_ops_library import VARIABLE as HEADERS
from default_row import ROW

from trtyard.core import cuda_device
from trtyard.core.cuda_device import first_device
from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import find_nvcc
from trtyard.core.report import exit_code
from trtyard.core.request import ConversionRequest
from trtyard.pipeline import conversion
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.onnx_model.versions import CPU_PROVIDER, CUDA_PROVIDER
from trtyard.pipeline.row import read_row

ROOT = Path(__file__).parents[3]
NETS = """
import torch
from trtyard.ops import padded_nms


class Boxes(torch.nn.Module):
    def forward(self, boxes, scores):
        rows, count = padded_nms(
            boxes, scores, iou_threshold=0.5, score_threshold=0.1, keep_top_k=8, box_offset=0
        )
        return rows, count, scores * 2


def linear():
    return torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Tanh())
"""
BOXES = "boxes=1x1x20x4,scores=1x3x20"


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    file = tmp_path_factory.mktemp("row") / "row.json"
    file.write_text(json.dumps(ROW))
    return read_row(file)


@pytest.fixture
def converted(row, tmp_path):
    """Return a function that converts a model of NETS and returns its report."""
    nets = tmp_path / "nets.py"
    nets.write_text(NETS)

    def convert_it(name, provider=CPU_PROVIDER, model=None, given=None, **changes):
        asked = {"until": "onnx", "runtime": "onnxruntime-cuda", **changes}
        request = ConversionRequest(model=model or f"{nets}:{name}", **asked)
        where = Surroundings(
            "host", tmp_path / "out", ROOT / "plugins", tmp_path / "cache", provider=provider
        )
        return convert(row, request, where._replace(**(given or {})))

    return convert_it


def stage_of(report):
    return next(one for one in report.stages if one.name == "onnxruntime-cuda")


def pairs(report):
    return {one.pair: one.passed for one in (*report.parity, *report.detections)}


def test_kernels_are_compared_with_pytorch_on_the_same_device(converted, library):
    report = converted("Boxes", input=BOXES, ops=str(library))
    assert stage_of(report).status == "passed", stage_of(report)
    assert "with the kernels of libtrtyard_ort.so" in stage_of(report).note
    assert pairs(report) == {
        ("torch", "onnxruntime"): True,
        ("torch-cuda", "onnxruntime-cuda"): True,
    }
    assert exit_code(report) == 0
    names = [one.name for one in report.stages]
    assert names[2:4] == ["onnxruntime", "onnxruntime-cuda"]
    assert f"--runtime onnxruntime-cuda --ops {library}" in report.command


def test_without_a_library_the_function_bodies_run(converted):
    report = converted("Boxes", input=BOXES)
    assert "with the function bodies" in stage_of(report).note
    assert pairs(report)["torch-cuda", "onnxruntime-cuda"]


def test_kernels_are_compiled_for_the_gpu_in_use(converted, tmp_path, monkeypatch):
    """By the real nvcc, from sources that register no op: the bodies of the file run."""
    if HEADERS not in os.environ:
        pytest.skip(f"{HEADERS} does not name a folder with onnxruntime_cxx_api.h")
    try:
        find_nvcc()
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    monkeypatch.setattr(cuda_device, "first_device", lambda: cuda_device.Device("A GPU", "9.0"))
    sources = tmp_path / "sources" / "tiny"
    sources.mkdir(parents=True)
    (sources / "kernel.cu").write_text("__global__ void nothing() {}\n")
    (sources / "registry_ort.cpp").write_text(
        '#include <onnxruntime_c_api.h>\nextern "C" __attribute__((visibility("default"))) '
        "OrtStatus* RegisterCustomOps(OrtSessionOptions*, OrtApiBase const*) { return nullptr; }\n"
    )
    given = {
        "plugin_sources": sources.parent, "onnxruntime_headers": Path(os.environ[HEADERS]),
    }  # fmt: skip
    report = converted("Boxes", input=BOXES, given=given)
    assert stage_of(report).status == "passed", stage_of(report)
    assert "with the kernels of libtrtyard_ort.so" in stage_of(report).note
    note = json.loads(
        (tmp_path / "cache" / "onnxruntime-90" / "libtrtyard_ort.so.json").read_text()
    )
    assert note["architectures"] == ["90"]


def test_model_without_custom_ops_takes_no_library(converted, tmp_path):
    report = converted("linear", input="1x4", ops=str(tmp_path / "absent.so"))
    assert stage_of(report).status == "passed"
    assert "kernels" not in stage_of(report).note
    assert pairs(report)["torch-cuda", "onnxruntime-cuda"]


def test_onnx_file_is_compared_with_itself_on_the_cpu(converted, tmp_path):
    converted("linear", input="1x4", runtime=None)
    (tmp_path / "out" / "model.onnx").rename(tmp_path / "linear.onnx")
    report = converted("", model=str(tmp_path / "linear.onnx"))
    assert pairs(report) == {("onnxruntime", "onnxruntime-cuda"): True}
    assert exit_code(report) == 0


def test_wrong_library_fails_the_stage_and_nothing_else(converted, tmp_path):
    wrong = tmp_path / "libwrong.so"
    wrong.write_bytes(b"not a library")
    report = converted("Boxes", input=BOXES, ops=str(wrong))
    assert stage_of(report).status == "failed"
    assert "ONNX Runtime refuses libwrong.so" in stage_of(report).reason
    assert "./run plugins --for onnxruntime" in stage_of(report).hint
    assert pairs(report) == {("torch", "onnxruntime"): True}
    assert exit_code(report) == 4


def test_difference_on_the_gpu_fails_the_comparison(converted, monkeypatch):
    run_on = conversion._run_on

    def differs(device, model):
        return {name: value + 1 for name, value in run_on(device, model).items()}

    monkeypatch.setattr(conversion, "_run_on", differs)
    report = converted("linear", input="1x4")
    assert pairs(report) == {
        ("torch", "onnxruntime"): True,
        ("torch-cuda", "onnxruntime-cuda"): False,
    }
    assert exit_code(report) == 1


def test_model_that_fails_on_the_gpu_is_compared_with_the_cpu(converted, monkeypatch):
    def fails(device, _model):
        raise ConversionError(f"PyTorch fails on {device}\n  RuntimeError: two devices")

    monkeypatch.setattr(conversion, "_run_on", fails)
    report = converted("linear", input="1x4")
    why = "PyTorch fails on cpu: RuntimeError: two devices"
    assert stage_of(report).note.endswith(f"is compared with PyTorch on the CPU, because {why}")
    assert pairs(report)["torch", "onnxruntime-cuda"]


@pytest.mark.skipif(first_device() is not None, reason="this machine has a CUDA device")
def test_without_a_device_the_stage_is_not_run(converted):
    report = converted("linear", CUDA_PROVIDER, input="1x4")
    assert stage_of(report).status == "not-run"
    assert stage_of(report).reason == "no CUDA device on this machine"
    assert exit_code(report) == 0


def test_the_stage_is_absent_unless_it_was_asked_for(converted):
    report = converted("linear", input="1x4", runtime=None)
    assert [one.name for one in report.stages] == [
        "torch", "export", "onnxruntime", "plugins", "engine", "tensorrt",
    ]  # fmt: skip
    assert "onnxruntime-gpu" not in report.versions


@pytest.mark.slow
def test_every_detection_is_matched(converted, library):
    report = converted("", model="faster_rcnn", size=128, top_n=50, ops=str(library))
    (found,) = (one for one in report.detections if one.pair[1] == "onnxruntime-cuda")
    assert found.pair == ("torch-cuda", "onnxruntime-cuda")
    assert found.reference == found.matched > 0
    assert found.passed
