"""Both exporters, and what they say when they fail."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from google.protobuf.message import EncodeError
from onnx import helper
from torch import nn
from torchvision.ops import deform_conv2d

from trtyard.core.errors import ConversionError
from trtyard.known_failures.advice import with_advice, worth_telling
from trtyard.known_failures.explanation import explain
from trtyard.pipeline.export.exporter import export_onnx, other_values, problem_of
from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.models.user_code import find_callable
from trtyard.pipeline.onnx_model.origin import keep_lines, origin_of
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.onnx_model.symptoms import holds_float16
from trtyard.pipeline.ops import padded_nms, roi_align

BOTH = pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])


class TinyDetector(nn.Module):
    """Both custom ops behind one convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, stride=4, padding=1)

    def forward(self, image):
        features = self.convolution(image).relu()
        boxes = features.flatten(1)[:, :400].reshape(1, 1, 100, 4) * 50
        scores = boxes.sum(-1).tanh()
        indices, count = padded_nms(boxes, scores, 0.5, 0.1, 90, 1)
        rois = boxes[0, 0][indices[0].clamp(min=0).long()]
        images = torch.where(indices[0] < 0, -1, 0).int()
        return roi_align(features, rois, images, 7, 5, 0.25, 0, 0), count


def export(module, inputs, exporter, file, outputs=("output",)):
    names = [f"input_{index}" for index in range(len(inputs))]
    return export_onnx(module.eval(), inputs, names, outputs, exporter, 18, file)


@BOTH
def test_file_with_ops_and_functions_equals_torch(exporter, tmp_path):
    module, image = TinyDetector(), torch.rand(1, 3, 64, 64)
    file = tmp_path / "model.onnx"
    exported = export(module, (image,), exporter, file, ("pooled", "count"))
    model = onnx.load(file)
    assert [node.op_type for node in model.graph.node if node.domain == "trtyard"] == [
        "PaddedNMS",
        "MaskRcnnROIAlign",
    ]
    assert exported.functions == ("PaddedNMS", "MaskRcnnROIAlign")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    pooled, count = module(image)
    actual = run_onnx(file, {"input_0": image.numpy()}, ["pooled", "count"])
    assert 0 < int(count) < 90
    assert actual["count"].tolist() == count.tolist()
    np.testing.assert_allclose(actual["pooled"], pooled.detach().numpy(), rtol=1e-4, atol=1e-5)


def line_of(words):
    return next(
        n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if words in line
    )


class Scoped(nn.Module):
    """Ops inside of scopes that torch.export makes modules of."""

    def __init__(self, function=torch.tanh):
        super().__init__()
        self.function = function

    def forward(self, image):
        with torch.autocast("cpu", torch.bfloat16):
            scores = image @ image
            with torch.no_grad():
                found = self.function(scores.float())
        return found * 2


def test_lines_inside_autocast_and_no_grad_are_the_users(tmp_path):
    export(Scoped(), (torch.rand(5, 5),), "dynamo", tmp_path / "x.onnx")
    graph = onnx.load(tmp_path / "x.onnx").graph
    assert holds_float16(graph) is False
    origins = {node.op_type: origin_of(node) or "" for node in graph.node}
    for op, words in (
        ("MatMul", "image @ " + "image"),
        ("Tanh", "self.function(scores" + ".float"),
    ):
        assert origins[op].startswith(f"{__file__}:{line_of(words)} in forward: "), (
            op,
            origins[op],
        )


def test_unsupported_op_in_autocast_has_the_users_line(tmp_path):
    module = Scoped(lambda scores: scores.kthvalue(1)[0])
    with pytest.raises(ConversionError) as caught:
        export(module, (torch.rand(5, 5),), "dynamo", tmp_path / "x.onnx")
    line = line_of("self.function(scores" + ".float")
    assert f"at {__file__}:{line} in forward: found = self" in caught.value.message
    assert "op: aten.kthvalue" in caught.value.message


def test_float16_inside_is_seen(tmp_path):
    half = nn.Sequential(nn.Linear(4, 4)).half()
    exported = export(half, (torch.rand(2, 4).half(),), "dynamo", tmp_path / "x.onnx")
    assert exported.has_float16
    assert not export(
        nn.Linear(4, 4), (torch.rand(2, 4),), "dynamo", tmp_path / "y.onnx"
    ).has_float16


@BOTH
def test_the_file_knows_the_python_line_of_every_op(exporter, tmp_path):
    export(TinyDetector(), (torch.rand(1, 3, 64, 64),), exporter, tmp_path / "x.onnx", ("p", "c"))
    nodes = onnx.load(tmp_path / "x.onnx").graph.node
    origins = {node.op_type: origin_of(node) or "" for node in nodes}
    for op, words in (
        ("Conv", "self.convolution(image)" + ".relu()"),
        ("Tanh", "boxes.sum(-1)" + ".tanh()"),
        ("PaddedNMS", "padded_nms(boxes, scores" + ", 0.5"),
        ("MaskRcnnROIAlign", "return roi_align(features" + ", rois, images"),
    ):
        assert origins[op].startswith(f"{__file__}:{line_of(words)} in forward"), (op, origins[op])


def test_torchscript_stack_is_reduced_to_one_line(tmp_path):
    export(TinyDetector(), (torch.rand(1, 3, 64, 64),), "torchscript", tmp_path / "x.onnx", "pc")
    strings = [node.doc_string for node in onnx.load(tmp_path / "x.onnx").graph.node]
    assert any(strings)
    assert all("\n" not in one for one in strings)
    assert not any("site-packages" in one or "/trtyard/pipeline/" in one for one in strings)


STACK = """\
/env/lib/python3.10/site-packages/torch/nn/functional.py(7): relu
/env/lib/python3.10/site-packages/torchvision/models/resnet.py(92): forward
/env/lib/python3.10/site-packages/torch/nn/modules/module.py(1501): _slow_forward
{own}/env/lib/python3.10/site-packages/torch/jit/_trace.py(129): wrapper
/env/lib/python3.10/site-packages/torch/onnx/utils.py(516): export
/home/me/trtyard/pipeline/export/torchscript.py(40): export_torchscript
"""


@pytest.mark.parametrize(
    ("stack", "kept"),
    [
        (STACK.format(own="/home/me/net.py(3): forward\n"), "/home/me/net.py(3): forward"),
        (
            STACK.format(own=""),
            "/env/lib/python3.10/site-packages/torchvision/models/resnet.py(92): forward",
        ),
        ("", ""),
        ("What the node is for", ""),
    ],
)
def test_remaining_line_is_the_models(stack, kept):
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], doc_string=stack)], "g", [], []
    )
    node = helper.make_node("If", ["c"], ["y"], doc_string=stack, then_branch=inner)
    graph = helper.make_graph([node], "graph", [], [])
    keep_lines(graph)
    assert graph.node[0].doc_string == kept
    assert graph.node[0].attribute[0].g.node[0].doc_string == kept


class Frozen(nn.Module):
    def forward(self, image):
        values = torch.from_numpy(image.detach().numpy())
        return image + (values * torch.arange(4)).sum()


def test_frozen_value_gives_a_difference(tmp_path):
    image, file = torch.rand(1, 5, 4), tmp_path / "model.onnx"
    export(Frozen(), (image,), "torchscript", file)
    actual = run_onnx(file, {"input_0": image.numpy()}, ["output"])["output"]
    assert not np.allclose(actual, Frozen()(image).numpy(), atol=1e-3)


def test_dynamo_refuses_a_value_that_tracing_freezes(tmp_path):
    with pytest.raises(ConversionError, match=r"values = torch\.from_numpy"):
        export(Frozen(), (torch.rand(1, 5, 4),), "dynamo", tmp_path / "model.onnx")


def test_tracer_sees_other_values_than_the_input(tmp_path):
    seen = []

    class Watching(nn.Module):
        def forward(self, image):
            seen.append(image.detach().clone())
            return image * 2

    image = torch.arange(12.0).reshape(1, 3, 4)
    export(Watching(), (image,), "torchscript", tmp_path / "model.onnx")
    assert seen
    assert not any(torch.equal(value, image) for value in seen)


class Ratio(nn.Module):
    """Frozen by tracing: sum, extreme, mean, and the branch that its sign decides."""

    def __init__(self, take):
        super().__init__()
        self.take = take

    def forward(self, x):
        return x * 3 if self.take(x) is True else x * float(self.take(x))


@pytest.mark.parametrize(
    "take",
    [
        lambda x: x.sum(),
        lambda x: x.abs().max().item(),
        lambda x: x.mean(),
        lambda x: bool(x.mean() > 0),
    ],
    ids=["sum", "max", "mean", "sign"],
)
@pytest.mark.parametrize("shape", [(3, 4), (4, 1)])
def test_frozen_value_shows_despite_a_mirrored_input(take, shape, tmp_path):
    torch.manual_seed(1)
    module, x = Ratio(take), torch.rand(shape) - 0.4
    file = tmp_path / "model.onnx"
    export(module, (x,), "torchscript", file)
    found = run_onnx(file, {"input_0": x.numpy()}, ["output"])["output"]
    assert np.abs(found - module(x).numpy()).max() > 0.02


def test_other_values_keep_type_shape_and_range():
    number = torch.tensor([[3, 9, 4]], dtype=torch.uint8)
    picture, mask, scalar = (
        torch.rand(1, 3, 4, 4),
        torch.tensor([True, False, False]),
        torch.ones(()),
    )
    others = other_values([number, picture, mask, scalar, torch.zeros(0, 3), number.long() - 5])
    assert others[0].tolist() == [[8, 3, 9]]
    assert others[0].dtype == torch.uint8
    assert float(others[1].min()) >= 0
    assert others[2].tolist() == [False, True, True]
    assert float(others[3]) == 0.75
    assert others[4].shape == (0, 3)
    assert others[5].tolist() == [[3, -2, 4]]
    assert float(other_values([torch.tensor([1.0, -2.0])])[0][0]) == 1.5


def test_an_export_does_not_change_the_modules_buffers(tmp_path):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("runs", torch.zeros(1))

        def forward(self, x):
            self.runs += 1
            return x * self.runs

    module = Counter()
    for exporter in ("torchscript", "dynamo"):
        export(module, (torch.rand(2),), exporter, tmp_path / "model.onnx")
        assert float(module.runs) == 0


def test_a_warning_of_the_tracer_has_the_line_of_the_model(tmp_path):
    exported = export(
        Ratio(lambda x: x.sum()), (torch.rand(2),), "torchscript", tmp_path / "x.onnx"
    )
    at = f" ({__file__}:{line_of('return x * 3 if self' + '.take(x) is True')})"
    floats = [words for words in worth_telling(exported.warnings) if "float" in words]
    assert floats
    assert all(words.endswith(at) for words in floats), floats


@BOTH
def test_an_op_without_onnx_form_is_named(exporter, tmp_path):
    class Eigen(nn.Module):
        def forward(self, matrix):
            return torch.linalg.eigvals(matrix)

    with pytest.raises(ConversionError) as failure:
        export(Eigen(), (torch.rand(3, 3),), exporter, tmp_path / "model.onnx")
    assert "linalg_eig" in failure.value.message
    assert "why: ONNX has no form" in with_advice(failure.value).message
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_the_python_line_of_an_op_without_onnx_form_is_named(exporter, tmp_path):
    class Eigen(nn.Module):
        def forward(self, matrix):
            return torch.linalg.eigvals(matrix)

    with pytest.raises(ConversionError, match=r"test_export.py:\d+ in forward: return torch.lin"):
        export(Eigen(), (torch.rand(3, 3),), exporter, tmp_path / "model.onnx")


NETS = """\
import torch


class Adds(torch.nn.Module):
    def forward(self, x):
        return (x + 1).relu()


class Eigen(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x)
"""


@BOTH
@pytest.mark.parametrize(
    "path", ["a folder, with (odd) chars/net.py", 'it\'s "é 日本" #1: [x] in/net (2).py']
)
def test_python_line_is_found_for_any_path(exporter, path, tmp_path):
    file = tmp_path / path
    file.parent.mkdir()
    file.write_text(NETS)
    module = find_callable(f"{file}:Adds")()
    export(module, (torch.rand(3, 3),), exporter, tmp_path / "x.onnx")
    origins = [origin_of(node) or "" for node in onnx.load(tmp_path / "x.onnx").graph.node]
    assert origins
    assert all(origin.startswith(f"{file}:6 in forward") for origin in origins), origins
    with pytest.raises(ConversionError) as failure:
        export(find_callable(f"{file}:Eigen")(), (torch.rand(3, 3),), exporter, tmp_path / "y.onnx")
    at = f"{file}:11 in forward: return torch.linalg.eigvals(x)"
    error = with_advice(failure.value)
    assert f"\n  at {at}\n" in error.message
    assert explain(str(error))[0].place.python == at


def test_later_opset_op_has_its_line_and_opset(tmp_path):
    class Deformed(nn.Module):
        def forward(self, image):
            weight, offset = torch.ones(1, 1, 3, 3), image[:, :1].expand(-1, 18, -1, -1)
            return deform_conv2d(image, offset, weight, padding=1)

    with pytest.raises(ConversionError) as failure:
        export(Deformed(), (torch.rand(1, 1, 4, 4),), "dynamo", tmp_path / "model.onnx")
    assert "op: DeformConv (node node_deform_conv2d)" in failure.value.message
    assert (
        f"at {__file__}:{line_of('return deform_conv2d' + '(image, offset')} in"
        in failure.value.message
    )
    error = with_advice(failure.value)
    assert "why: this op came with opset 19, and the export is at 18" in error.message
    assert error.hint.startswith("--opset 19, or replace it")


@BOTH
def test_op_missing_in_onnxruntime_has_its_line(exporter, tmp_path):
    class Low(nn.Module):
        def forward(self, image):
            return torch.atan(image.double()).float()

    file = tmp_path / "model.onnx"
    export(Low(), (torch.rand(3, 3),), exporter, file)
    with pytest.raises(ConversionError) as failure:
        run_onnx(file, {"input_0": np.ones((3, 3), np.float32)}, ["output"])
    assert "op: Atan (node" in failure.value.message
    assert f"at {__file__}:{line_of('torch.atan(image' + '.double())')} in" in failure.value.message
    assert "compute in float32" in with_advice(failure.value).hint


@BOTH
def test_file_with_an_unused_input_runs(exporter, tmp_path):
    class First(nn.Module):
        def forward(self, left, right):
            return left * 2

    file, left, right = tmp_path / "model.onnx", torch.rand(2), torch.rand(3)
    exported = export(First(), (left, right), exporter, file)
    kept = {"input_0", "input_1"} - set(exported.unused)
    assert {value.name for value in onnx.load(file).graph.input} == kept
    assert "input_0" in kept
    given = {"input_0": left.numpy(), "input_1": right.numpy()}
    found = run_onnx(file, given, ["output"])["output"]
    np.testing.assert_array_equal(found, left.numpy() * 2)


def test_long_words_of_an_exporter_are_cut_in_the_message_alone():
    words = "Could not guard on " + " + ".join(f"Min(300, u{number})" for number in range(90))
    with pytest.raises(ConversionError) as failed, explained("cannot capture the model"):
        raise ValueError(words)
    (line,) = [each for each in failed.value.message.splitlines() if "guard" in each]
    assert line.startswith("  ValueError: Could not guard on Min(300, u0)")
    assert line.endswith(" ...")
    assert len(line) < 320
    assert words in failed.value.log


def test_a_branch_on_values_is_explained_with_its_line(tmp_path):
    class Branch(nn.Module):
        def forward(self, image):
            return image * 2 if image.sum() > 0 else image

    with pytest.raises(ConversionError, match="return image \\* 2 if") as failure:
        export(Branch(), (torch.rand(3, 3),), "dynamo", tmp_path / "model.onnx")
    assert "padding and a count" in with_advice(failure.value).hint


@BOTH
def test_an_error_in_the_model_is_shown_with_its_line(exporter, tmp_path):
    class Broken(nn.Module):
        def forward(self, image):
            return image @ torch.zeros(5, 5)

    with pytest.raises(ConversionError, match=r"test_export.py:\d+ in forward: return image @"):
        export(Broken(), (torch.rand(3, 3),), exporter, tmp_path / "model.onnx")


@BOTH
def test_a_failed_export_prints_nothing(exporter, tmp_path, capfd):
    class Eigen(nn.Module):
        def forward(self, matrix):
            return torch.linalg.eigvals(matrix)

    with pytest.raises(ConversionError):
        export(Eigen(), (torch.rand(3, 3),), exporter, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


def test_tracer_warnings_are_reported_once(tmp_path):
    class Branch(nn.Module):
        def forward(self, image):
            return image * 2 if image.sum() > 0 else image

    exported = export(Branch(), (torch.rand(3, 3),), "torchscript", tmp_path / "model.onnx")
    (warning,) = worth_telling(exported.warnings)
    assert "Python boolean" in warning


def test_invalid_onnx_is_allowed_for_tensorrt_only(tmp_path, monkeypatch):
    monkeypatch.setattr("trtyard.pipeline.export.exporter.problem_of", lambda _: "it limps")
    arguments = (nn.ReLU(), (torch.rand(2),), ["x"], ["y"], "torchscript", 17)
    file = tmp_path / "model.onnx"
    with pytest.raises(ConversionError, match="it limps"):
        export_onnx(*arguments, file)
    assert not file.exists()
    assert export_onnx(*arguments, file, may_be_invalid=True).invalid == "it limps"
    assert file.exists()


def test_model_over_2_gib_is_refused_before_protobuf():
    class Huge:
        """Weights of 2.2 GiB in the memory of one, and protobuf's answer to them."""

        graph = SimpleNamespace(initializer=[SimpleNamespace(raw_data=bytes(1 << 27))] * 18)

        def ByteSize(self):  # noqa: N802 - protobuf's name
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(ConversionError, match=r"needs 2\.2 GiB; one ONNX file holds 2 GiB"):
        problem_of(Huge())
