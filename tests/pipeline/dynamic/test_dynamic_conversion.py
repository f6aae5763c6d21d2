"""Models with ranges of sizes, through every stage that runs here."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from trtyard.core import cuda_device
from trtyard.core.errors import UsageError
from trtyard.core.report import FAILED, PASSED, exit_code
from trtyard.core.request import ConversionRequest
from trtyard.known_failures.advice import symptom_in_words
from trtyard.pipeline import artifacts
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.row import Row
from trtyard.run.triton import batch_limit

DYNAMO = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
TORCHSCRIPT = DYNAMO._replace(exporter="torchscript", opset=17)
BOTH = pytest.mark.parametrize("row", [DYNAMO, TORCHSCRIPT], ids=["dynamo", "torchscript"])

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"

NETS = """\
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1)
    def forward(self, ids):
        return self.layers(self.embed(ids))

class Cross(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, words, memory):
        return self.attention(words, memory, memory, need_weights=False)[0]

class Masked(nn.Module):
    def forward(self, ids, mask):
        return (ids.float() * mask.float()).sum(1) + 1, mask

class Frozen(nn.Module):
    def forward(self, x):
        n = int(x.shape[0])
        return x.reshape(n, -1) * 2

class Mean(nn.Module):
    def forward(self, x):
        return x.sum(0) / len(x)

class Padded(nn.Module):
    def forward(self, x):
        n = int(x.shape[0])
        return torch.cat([x.reshape(n, -1), torch.ones(n, 2)], 1)

class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 6 else x * 3

class Blocks(nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], x.shape[1] // 4, 4) * 3

class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(16, 6))
    def forward(self, x):
        return x + self.table[torch.arange(x.shape[1])]

def small_vit():
    from torchvision.models import VisionTransformer
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)
"""


@pytest.fixture
def run(tmp_path, monkeypatch, plugin_cache):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()

    def converted(name, shapes, row=DYNAMO, until="onnx", **options):
        spec = f"nets.py:{name}" if name in NETS else name
        request = ConversionRequest(model=spec, input=shapes, until=until, **options)
        return convert(row, request, Surroundings("host", out, PLUGINS, plugin_cache)), out

    return converted


def stage(report, name):
    return next(one for one in report.stages if one.name == name)


def dimensions(values):
    return {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in values
    }


@BOTH
def test_the_file_declares_a_batch_that_triton_can_make(run, row):
    report, _out = run("Cross", "words=1..6x5x8,memory=1..6x7x8", row)
    inputs, outputs = report.signature
    (batch,) = (one.name for one in report.dimensions)
    assert [one.shape for one in inputs] == [(batch, "5", "8"), (batch, "7", "8")]
    assert [one.shape for one in outputs] == [(batch, "5", "8")]
    assert batch_limit(report, is_plan=False) == 6


@BOTH
def test_batch_and_sentence_vary_from_the_file_to_the_engine(run, row):
    report, out = run("Encoder", "ids=1..8x[s=1..32]:int64:50", row, until="engine")
    assert exit_code(report) == 0
    assert stage(report, "engine").status == PASSED
    assert report.engine.profiles == 1
    assert [each.role for each in report.sizes] == ["opt", "min", "max", "between", "between"]
    assert all(each.passed and each.parity[0].elements for each in report.sizes)
    assert report.sizes[2].sizes == {"batch": 8, "s": 32}
    assert report.sizes[2].parity[0].elements == 8 * 32 * 8
    graph = onnx.load(out / artifacts.ONNX).graph
    assert dimensions(graph.input) == {"ids": ["batch", "s"]}
    assert dimensions(graph.output) == {"output": ["batch", "s", 8]}
    (batch, sentence) = report.dimensions
    assert (batch.name, batch.places, batch.profiles) == ("batch", ("ids[0]",), ((1, 4, 8),))
    assert (sentence.name, sentence.profiles) == ("s", ((1, 8, 32),))


@BOTH
def test_inputs_share_a_batch_in_several_profiles(run, row):
    text = "mask=1..4x3:bool,ids=1..4x3:int64:9;mask=8..16x3,ids=8..16x3"
    report, out = run("Masked", text, row, until="engine")
    assert exit_code(report) == 0
    assert report.engine.profiles == 2
    sizes = {each.sizes["batch"] for each in report.sizes}
    assert {1, 2, 4, 8, 16} <= sizes
    graph = onnx.load(out / artifacts.ONNX).graph
    assert dimensions(graph.input) == {"ids": ["batch", 3], "mask": ["batch", 3]}


@BOTH
def test_attention_between_two_sentences_takes_any_lengths(run, row):
    report, out = run("Cross", "words=1..4x[a=1..9]x8,memory=1..4x[b=2..20]x8", row)
    assert exit_code(report) == 0
    assert len(report.sizes) == 5
    graph = onnx.load(out / artifacts.ONNX).graph
    assert dimensions(graph.output) == {"output": ["batch", "a", 8]}


def test_each_size_has_inputs_of_its_own(run):
    report, _out = run("Blocks", "4..5x8")
    figures = {each.parity[0].worst.reference for each in report.sizes}
    assert len(figures) == len(report.sizes) == 2


@pytest.mark.parametrize(
    ("name", "line", "places"),
    [("Frozen", 27, ["Reshape"]), ("Mean", 31, ["Div"]), ("Padded", 36, ["Reshape", "Concat"])],
)
def test_a_size_that_the_trace_froze_fails_and_is_explained(run, name, line, places):
    report, _out = run(name, "x=1..8x3x4", TORCHSCRIPT)
    assert exit_code(report) == 1
    assert not any(each.passed for each in report.sizes)
    (found,) = report.symptoms
    assert found.name == "size-frozen"
    assert "batch is fixed to 5, its size in the trace" in found.detail
    assert f"nets.py:{line} in forward" in found.detail
    assert all(f"{op} (node /{op})" in found.detail for op in places)
    assert "With 4 in its place ONNX Runtime gives PyTorch's results at batch 4" in found.detail
    assert "x.shape[0]" in symptom_in_words(found)


def test_refused_size_is_a_failed_comparison(run):
    report, _out = run("Frozen", "x=4:5:8x3x4", TORCHSCRIPT)
    assert stage(report, "onnxruntime").status == PASSED
    assert exit_code(report) == 1
    passed = {each.sizes["batch"]: each.passed for each in report.sizes}
    assert passed == {4: False, 5: True, 6: False, 7: False, 8: False}
    refused = next(each for each in report.sizes if each.sizes["batch"] == 8)
    assert "Reshape" in refused.problem
    assert not refused.parity


@pytest.mark.parametrize(
    ("name", "shapes", "problem", "line", "hint"),
    [
        (
            "Frozen",
            "x=1..8x3x4",
            "batch: 1..8 was asked for, and the code fixes it to 5",
            26,
            "int",
        ),
        ("Branch", "x=1..8x4", "the code takes sizes up to 6 only on this path", 40, "one side"),
    ],
)
def test_torch_export_says_which_line_closes_a_dimension(run, name, shapes, problem, line, hint):
    report, _out = run(name, shapes)
    failed = stage(report, "export")
    assert failed.status == FAILED
    assert exit_code(report) == 4
    assert problem in failed.reason
    assert f"nets.py:{line} in forward" in failed.reason
    assert hint in failed.hint


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_an_engine_runs_at_the_same_sizes_and_is_compared(run, monkeypatch, error):
    """No GPU here runs the engine: ONNX Runtime stands in for it."""

    def run_engine(engine_file, inputs, _library, others):
        file = engine_file.with_name(artifacts.ONNX)
        first, *rest = (run_onnx(file, each, ("output",)) for each in [inputs, *others])
        rest[-1]["output"] += np.float32(error)
        return SimpleNamespace(outputs=first, layers=None, at_other_sizes=rest)

    runner = SimpleNamespace(run_engine=run_engine)
    monkeypatch.setitem(sys.modules, "trtyard.pipeline.tensorrt.runner", runner)
    monkeypatch.setattr(
        cuda_device, "usable_device", lambda _runs_on: (cuda_device.Device("New", "8.9"), "")
    )
    report, _out = run("Blocks", "x=1..8x8", until="engine")
    own = [each for each in report.sizes if each.pair == ("torch", "tensorrt")]
    assert [each.sizes for each in own] == [each.sizes for each in report.sizes[:5]]
    assert [each.passed for each in own] == [True] * 4 + [not error]
    assert exit_code(report) == (1 if error else 0)


def test_sizes_in_between_follow_the_step_of_the_range(run):
    report, out = run("Blocks", "x=1..8x4:16:128")
    assert exit_code(report) == 0
    assert {each.sizes["x_dim1"] % 4 for each in report.sizes} == {0}
    assert len(report.sizes) == 5
    assert "so multiples of the range's sizes are compared" in stage(report, "torch").note
    graph = onnx.load(out / artifacts.ONNX).graph
    assert dimensions(graph.input) == {"x": ["batch", "x_dim1"]}


def test_a_size_that_the_model_itself_refuses_is_named(run):
    report, _out = run("Positions", "x=1..4x[s=1..32]x6")
    failed = stage(report, "torch")
    assert failed.status == FAILED
    assert "at batch 4, s 32: the model fails in PyTorch itself" in failed.reason
    assert "nets.py:51" in failed.reason
    assert "give a range that the model takes" in failed.hint


def test_dimensions_that_must_be_equal_are_told_to_share_a_name(run):
    report, _out = run("Masked", "ids=[a=4..8]x3:int64:9,mask=[b=4..8]x3:bool")
    failed = stage(report, "torch")
    assert "at a 4, b 8: the model fails in PyTorch itself" in failed.reason
    assert "[n=1..8] and then [n]" in failed.hint


def test_an_unknown_input_is_refused_before_anything_runs(run):
    with pytest.raises(UsageError, match="has no input 'y'; it has: ids"):
        run("Encoder", "y=1..8x4:int64:50")


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("name", "shapes", "names"),
    [
        ("resnet18", "1..4x3x64x64", ["batch", 3, 64, 64]),
        ("small_vit", "1..4x3x32x32", ["batch", 3, 32, 32]),
        ("lraspp_mobilenet_v3_large", "1..2x3x128..192x128..192", ["batch", 3, "height", "width"]),
        ("deeplabv3_resnet50", "1x3x64..96x64..96", [1, 3, "height", "width"]),
    ],
)
def test_classifiers_and_segmenters_vary(run, row, name, shapes, names):
    report, out = run(name, shapes, row, until="engine")
    assert exit_code(report) == 0, report.stages
    assert len(report.sizes) > 2
    assert stage(report, "engine").status == PASSED
    (given,) = dimensions(onnx.load(out / artifacts.ONNX).graph.input).values()
    assert given == names


@pytest.mark.slow
@BOTH
def test_faster_rcnn_takes_any_batch_with_its_plugins(run, row):
    report, out = run("faster_rcnn", "1..3x3x96x128", row, until="engine", top_n=10)
    assert exit_code(report) == 0, report.stages
    assert [len(each.detections) for each in report.sizes] == [2, 1, 3]
    assert report.engine.plugin_layers == ("PaddedNMS", "MaskRcnnROIAlign", "PaddedNMS")
    assert dimensions(onnx.load(out / artifacts.ONNX).graph.output)["boxes"] == ["batch", 100, 4]
