"""The stages of each precision, on a small model of one's own."""

import json

import numpy as np
import onnx
import pytest

from trtyard.core.errors import UsageError
from trtyard.core.report import PRECISION_STAGES, exit_code
from trtyard.core.request import ConversionRequest
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.precision.budgets import BUDGETS
from trtyard.pipeline.precision.plan import is_by_builder
from trtyard.pipeline.row import Row

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
NET = """\
import torch
from torch import nn
from trtyard.ops import roi_align

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))

def half():
    return nn.Linear(4, 4).half()

class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = (nn.Conv2d(3, 3, 1) for _ in range(2))

    def forward(self, x):
        rois = torch.tensor([[0.0, 0.0, 6.0, 6.0]])
        images = torch.zeros(1, dtype=torch.int32)
        return self.after(roi_align(self.before(x), rois, images, 2, 2, 1.0, 2, 0))

class Quantized(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(torch.fake_quantize_per_tensor_affine(x, 0.04, 0, -128, 127))
"""


@pytest.fixture
def here(tmp_path):
    (tmp_path / "nets.py").write_text(NET)
    np.save(tmp_path / "x.npy", np.random.RandomState(0).randn(8, 3, 8, 8).astype("f"))
    np.save(tmp_path / "small.npy", np.random.RandomState(0).randn(8, 4).astype("f"))
    return tmp_path


def converted(folder, name="net", row=ROW, shape="1x3x8x8", **options):
    request = ConversionRequest(model=f"{folder / 'nets.py'}:{name}", input=shape, **options)
    where = Surroundings("host", folder / "out", folder / "plugins", folder / "cache")
    return convert(row, request, where)


def by_name(report):
    return {one.name: one for one in report.precisions}


def statuses(precision):
    return {stage.name: stage.status for stage in precision.stages}


def test_all_precisions_in_one_run(here):
    asked = "fp32,fp16,bf16,int8,fp8"
    data = str(here / "x.npy")
    report = converted(here, precision=asked, calibrate=data, keep_fp32="Gemm")
    assert (exit_code(report), report.precision) == (0, asked)
    found = by_name(report)
    assert list(found) == asked.split(",")
    for name in ("fp16", "bf16", "int8", "fp8"):
        one = found[name]
        assert tuple(stage.name for stage in one.stages) == PRECISION_STAGES
        assert statuses(one) == {
            "rewrite": "passed",
            "onnxruntime": "passed",
            "engine": "passed",
            "tensorrt": "not-run",
        }
        (values,) = one.values
        assert values.passed
        assert values.relative_error > 0
        assert values.samples == 5  # the input and what was held out
        note = json.loads((here / "out" / f"model.{name}.engine.json").read_text())
        assert note["precision"] == name
        assert note["engine"]["bytes"] == one.engine_bytes
        assert list(note["built_from"]) == [f"model.{name}.onnx"]
        assert report.artifacts[one.file]["bytes"] == one.file_bytes
        assert one.kept_nodes == {"--keep-fp32": 1}
    assert found["int8"].reduced_nodes == 1
    assert [found[name].calibration.cached for name in ("int8", "fp8")] == [False, True]
    assert (here / "out" / "model.engine").is_file()

    again = converted(here, precision="int8", calibrate=data, until="onnx")
    assert by_name(again)["int8"].calibration.cached
    assert "cached" in by_name(again)["int8"].stages[0].note
    assert not (here / "out" / "model.engine").exists()
    assert not (here / "out" / "model.fp16.onnx").exists()  # of the run before


def test_pooling_can_be_kept_in_fp32(here):
    asked = converted(here, "Pooled", until="onnx", precision="fp16", keep_fp32="MaskRcnnROIAlign")
    assert by_name(asked)["fp16"].kept_nodes == {"--keep-fp32": 1}
    model = onnx.load(str(here / "out" / "model.fp16.onnx"))
    before = {name: node.op_type for node in model.graph.node for name in node.output}
    (pool,) = [node for node in model.graph.node if node.op_type == "MaskRcnnROIAlign"]
    assert before[pool.input[0]] == "Cast"


def test_without_the_option_nothing_is_added(here):
    report = converted(here, until="onnx")
    assert (report.precisions, report.precision) == ((), "fp32")


def test_fp32_is_not_built_unless_it_is_asked_for(here):
    report = converted(here, precision="fp16")
    reasons = {stage.name: stage.reason for stage in report.stages}
    assert reasons["engine"] == "--precision does not ask for fp32"
    assert not (here / "out" / "model.engine").exists()
    assert (here / "out" / "model.fp16.engine").exists()


def test_a_missed_budget_is_a_parity_failure(here, monkeypatch):
    strict = BUDGETS["fp16"]._replace(relative_error=1e-9)
    monkeypatch.setitem(BUDGETS, "fp16", strict)
    report = converted(here, precision="fp16", until="onnx")
    assert exit_code(report) == 1


def test_a_model_that_fails_leaves_the_precisions_not_run(here):
    (here / "nets.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x * float('nan')\n"
    )
    report = converted(here, name="Net", precision="fp16")
    assert set(statuses(by_name(report)["fp16"]).values()) == {"not-run"}
    assert exit_code(report) == 4


def test_a_model_with_scales_of_its_own_is_not_quantized_again(here):
    data = str(here / "small.npy")
    report = converted(
        here, "Quantized", shape="1x4", precision="fp16,int8", calibrate=data, until="onnx"
    )
    assert exit_code(report) == 4
    found = by_name(report)
    assert "quantized already" in found["int8"].stages[0].reason
    assert statuses(found["fp16"])["onnxruntime"] == "passed"
    assert found["fp16"].kept_nodes == {"quantized already": 2}


def test_a_model_in_half_precision_is_refused(here):
    with pytest.raises(UsageError, match="has fp16 weights, and --precision int8 starts from fp32"):
        converted(
            here, "half", shape="1x4:float16", precision="int8", calibrate=str(here / "small.npy")
        )
    with pytest.raises(UsageError, match="has fp16 weights"):
        converted(here, "half", shape="1x4:float16", precision="fp16")


def test_options_are_checked_without_the_host_too(here):
    old = ROW._replace(name="8.6", tensorrt="8.6.1.6", flavour="full")
    with pytest.raises(UsageError, match=r"row 8\.6 \(TensorRT 8\.6\.1\.6\) has no bf16"):
        converted(here, row=old, precision="bf16")
    with pytest.raises(UsageError, match="needs calibration data"):
        converted(here, precision="int8")
    with pytest.raises(UsageError, match="no node matches 'Cnov'"):
        converted(here, precision="fp16", keep_fp32="Cnov", until="onnx")


def test_the_oldest_row_leaves_fp16_to_its_builder(here):
    oldest = ROW._replace(name="7.0", tensorrt="7.0.0.11", flavour="full")
    assert is_by_builder(oldest)
    assert not is_by_builder(oldest._replace(tensorrt="8.6.1.6"))
    report = converted(here, row=oldest, precision="fp16")
    (_, half) = report.precisions
    reasons = {stage.name: stage.reason for stage in half.stages}
    assert "builder makes fp16 of model.onnx itself" in reasons["rewrite"]
    assert "the builder chooses each type" in reasons["onnxruntime"]
    assert "builds engines on the GPU" in reasons["engine"]
    with pytest.raises(UsageError, match="chooses itself which layers are in fp16"):
        converted(here, row=oldest, precision="fp16", keep_fp32="Conv")
