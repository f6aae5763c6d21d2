"""Latency of --runtime onnxruntime-cuda: here on the CPU, with the custom ops' CPU kernels."""

import json
from pathlib import Path

import pytest
from default_row import ROW
from torch._inductor import config as inductor

from trtyard.core.cuda_device import first_device
from trtyard.core.request import BenchRequest
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.onnx_model.versions import CPU_PROVIDER, CUDA_PROVIDER
from trtyard.pipeline.row import read_row

ROOT = Path(__file__).parents[3]
NETS = """
import torch
from trtyard.ops import padded_nms


class Boxes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Linear(20, 20)

    def forward(self, boxes, scores):
        rows, count = padded_nms(
            boxes, scores, iou_threshold=0.5, score_threshold=0.1, keep_top_k=8, box_offset=0
        )
        return rows, count, self.scale(scores)


def linear():
    return torch.nn.Linear(4, 2)
"""
BOXES = "boxes=1x1x20x4,scores=1x3x20"
BODIES, KERNELS = "onnxruntime-cuda-bodies", "onnxruntime-cuda"
pytestmark = pytest.mark.skipif(first_device() is not None, reason="tests the CPU's timings")


@pytest.fixture
def bench(tmp_path):
    """Return a function that times a model of NETS and returns the timings of the runtime."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "row.json").write_text(json.dumps(ROW))

    def timed(name, provider=CPU_PROVIDER, **changes):
        asked = {"runtime": "onnxruntime-cuda", "until": "onnx", "runs": 10, "seconds": 1}
        request = BenchRequest(model=f"{tmp_path}/nets.py:{name}", **{**asked, **changes})
        where = Surroundings(
            "host", tmp_path / "out", ROOT / "plugins", tmp_path / "cache", provider=provider
        )
        with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
            report = convert(read_row(tmp_path / "row.json"), request, where)
        return [one for one in report.latency.timings if one.runtime in (BODIES, KERNELS)]

    return timed


@pytest.mark.slow
def test_bodies_kernels_and_graph_are_timed_at_each_batch(bench, library):
    found = bench("Boxes", input=BOXES, ops=str(library), batch="1,2")
    kinds = [(BODIES, False), (KERNELS, False), (KERNELS, True)]
    assert [(one.batch, one.runtime, one.is_graph) for one in found] == [
        (batch, *kind) for batch in (1, 2) for kind in kinds
    ]
    for one in found:
        assert one.reason is None
        assert (one.runs, one.device, one.precision) == (10, "cpu", "fp32")
        assert 0 < one.median_ms <= one.longest_ms
        assert one.note == "timed by the clock"


def test_model_without_custom_ops_has_no_bodies(bench):
    found = bench("linear", input="1x4")
    assert [(one.runtime, one.is_graph, one.runs) for one in found] == [
        (KERNELS, False, 10),
        (KERNELS, True, 10),
    ]


@pytest.mark.slow
def test_reduced_precision_is_timed_too(bench):
    found = bench("linear", input="1x4", precision="fp32,fp16", batch="1,2")
    assert [(one.batch, one.precision, one.is_graph, one.reason is None) for one in found] == [
        (1, "fp32", False, True),
        (1, "fp32", True, True),
        (1, "fp16", False, True),
        (1, "fp16", True, True),
        (2, "fp32", False, True),
        (2, "fp32", True, True),
        (2, "fp16", False, False),
        (2, "fp16", True, False),
    ]
    assert "the fp16 file has batch 1" in found[-1].reason


@pytest.mark.slow
def test_wrong_library_is_the_reason_for_no_times(bench, tmp_path):
    (tmp_path / "libwrong.so").write_bytes(b"not a library")
    found = bench("Boxes", input=BOXES, ops=str(tmp_path / "libwrong.so"))
    assert {one.runtime for one in found} == {KERNELS}
    assert all("ONNX Runtime refuses libwrong.so" in one.reason for one in found)


def test_without_a_device_the_reason_says_so(bench):
    found = bench("linear", CUDA_PROVIDER, input="1x4")
    assert {one.reason for one in found} == {"no CUDA device on this machine"}


def test_the_runtime_is_not_timed_unless_it_was_asked_for(bench):
    assert bench("linear", input="1x4", runtime=None) == []
