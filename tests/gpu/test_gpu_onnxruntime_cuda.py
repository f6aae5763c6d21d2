"""The runtime onnxruntime-cuda on a GPU: its process, its stage and its latency.

Needs onnx and onnxscript, and what the tests of ONNX Runtime need (conftest.py).
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from default_row import ROW  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from trtyard.core.errors import ConversionError  # noqa: E402
from trtyard.core.plugins.compile_plugins import compile_plugins  # noqa: E402
from trtyard.core.report import exit_code  # noqa: E402
from trtyard.core.request import BenchRequest  # noqa: E402
from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.convert import Surroundings, convert  # noqa: E402
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running  # noqa: E402
from trtyard.pipeline.ops.contract import DOMAIN  # noqa: E402
from trtyard.pipeline.row import read_row  # noqa: E402

SOURCES = Path(__file__).parents[2] / "plugins"
HEADERS = os.environ.get("TRTYARD_ONNXRUNTIME_HEADERS")
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 100, "box_offset": 0}
NETS = """
import torch
from trtyard.ops import padded_nms


class Boxes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide = torch.nn.Linear(512, 512)

    def forward(self, boxes, scores):
        scores = torch.sigmoid(self.wide(scores))
        rows, count = padded_nms(
            boxes, scores, iou_threshold=0.5, score_threshold=0.1, keep_top_k=8, box_offset=0
        )
        return rows, count, scores


class OnTheCpu(torch.nn.Module):
    def forward(self, x):
        return x + torch.ones(4, device="cpu")
"""
BOXES = "boxes=1x1x512x4,scores=1x3x512"


@pytest.fixture(scope="module")
def library(onnxruntime_library: Path) -> Path:
    return onnxruntime_library


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """Ask for a file of one PaddedNMS without its function, so only a library can run it."""
    random = np.random.default_rng(0)
    corner = random.uniform(0, 200, (1, 1, 400, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 80, corner.shape)], -1)
    inputs = {"boxes": np.float32(boxes), "scores": np.float32(random.random((1, 20, 400)))}
    value = helper.make_tensor_value_info
    node = helper.make_node("PaddedNMS", [*inputs], ["rows", "count"], domain=DOMAIN, **NMS)
    graph = helper.make_graph(
        [node],
        "one_node",
        [value(name, TensorProto.FLOAT, each.shape) for name, each in inputs.items()],
        [value(name, TensorProto.INT32, None) for name in ("rows", "count")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, str(tmp_path / "nms.onnx"))
    return Asked(tmp_path / "nms.onnx", inputs)


@pytest.fixture
def timed(tmp_path: Path):
    """Return a function that converts and times a model of NETS and returns its report."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "row.json").write_text(json.dumps(ROW))

    def run(name, headers=None, **changes):
        known = {"until": "onnx", "runtime": "onnxruntime-cuda", "runs": 10, "seconds": 2}
        request = BenchRequest(model=f"{tmp_path}/nets.py:{name}", **{**known, **changes})
        where = Surroundings(
            "host",
            tmp_path / "out",
            SOURCES,
            tmp_path / "cache",
            onnxruntime_headers=None if headers is None else Path(headers),
        )
        return convert(read_row(tmp_path / "row.json"), request, where)

    return run


def stage_of(report):
    return next(one for one in report.stages if one.name == "onnxruntime-cuda")


@pytest.mark.parametrize("is_graph", [False, True])
def test_process_gives_what_the_torch_op_gives(library, asked, is_graph) -> None:
    ops.use_kernels(library)
    try:
        given = [torch.from_numpy(each).cuda() for each in asked.inputs.values()]
        expected = [each.cpu().numpy() for each in ops.padded_nms(*given, **NMS)]
    finally:
        ops.use_kernels(None)
    with running(asked._replace(library=library, is_graph=is_graph)) as ran:
        times = [ran.run() for _ in range(5)]
    for got, wanted in zip(ran.outputs.values(), expected):
        np.testing.assert_array_equal(got, wanted)
    assert all(time > 0 for time in times)


def test_file_and_pytorch_agree_on_the_same_gpu(library, timed) -> None:
    report = timed("Boxes", input=BOXES, ops=str(library))
    assert stage_of(report).status == "passed", stage_of(report)
    assert f"with the kernels of {library.name}" in stage_of(report).note
    rows = [one for one in report.parity if one.pair == ("torch-cuda", "onnxruntime-cuda")]
    assert len(rows) == 3
    assert all(one.passed for one in rows)
    (scores,) = (one for one in rows if one.elements == 3 * 512)
    assert scores.max_abs < 1e-5  # TF32 in one of them would give 1e-3
    assert exit_code(report) == 0
    assert report.versions["onnxruntime-gpu"] == onnxruntime.__version__


def test_bodies_kernels_and_graph_are_timed(library, timed) -> None:
    report = timed("Boxes", input=BOXES, ops=str(library))
    found = {
        (one.runtime, one.is_graph): one
        for one in report.latency.timings
        if one.runtime.startswith("onnxruntime-cuda")
    }
    assert set(found) == {
        ("onnxruntime-cuda-bodies", False),
        ("onnxruntime-cuda", False),
        ("onnxruntime-cuda", True),
    }
    for one in found.values():
        assert (one.reason, one.device) == (None, "cuda")
        assert one.median_ms > 0


@pytest.mark.skipif(not HEADERS, reason="TRTYARD_ONNXRUNTIME_HEADERS is not set")
def test_kernels_are_compiled_for_this_gpu(library, timed, tmp_path) -> None:
    report = timed("Boxes", HEADERS, input=BOXES)
    assert "with the kernels of libtrtyard_ort.so" in stage_of(report).note
    major, minor = torch.cuda.get_device_capability()
    assert (tmp_path / "cache" / f"onnxruntime-{major}{minor}" / "libtrtyard_ort.so").is_file()


def test_model_bound_to_the_cpu_is_compared_there(library, timed) -> None:
    report = timed("OnTheCpu", input="2x4")
    assert stage_of(report).status == "passed"
    assert "is compared with PyTorch on the CPU, because PyTorch fails on cuda" in (
        stage_of(report).note
    )
    assert [one.passed for one in report.parity if one.pair[1] == "onnxruntime-cuda"] == [True]


@pytest.mark.skipif(not HEADERS, reason="TRTYARD_ONNXRUNTIME_HEADERS is not set")
def test_library_for_another_gpu_is_an_error(library, asked, tmp_path) -> None:
    if torch.cuda.get_device_capability() >= (12, 0):
        pytest.skip("code for 12.0 runs on this GPU")
    other = compile_plugins(SOURCES, tmp_path / "libother.so", ["120"], headers=Path(HEADERS))
    with (
        pytest.raises(ConversionError, match=r"cannot run nms\.onnx"),
        running(asked._replace(library=other.library)),
    ):
        pass
