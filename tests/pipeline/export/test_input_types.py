"""Indices of a type that ONNX does not take are cast when exporting."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from trtyard.pipeline.export.exporter import export_onnx, problem_of
from trtyard.pipeline.export.input_types import cast_inputs
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.ops import padded_nms, roi_align
from trtyard.pipeline.tensorrt.engine import build_engine

X = torch.arange(20.0).reshape(5, 4)
ROWS = torch.tensor([3, 0, 2])


class Of(nn.Module):
    """A function of a table and an index as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, index):
        return self.function(x, index)


def put(x, index):
    y = torch.zeros(5, 4)
    y[index] = x[:3]
    return y


def put_columns(x, index):
    y = x.clone()
    y[:, index] = 9.0
    return y


def put_pairs(x, index):
    y = x.clone()
    y[index, index] = 9.0
    return y


FORMS = {
    "x[i]": lambda x, index: x[index],
    "x[:, i]": lambda x, index: x[:, index],
    "x[..., i]": lambda x, index: x[..., index],
    "x[i, i]": lambda x, index: x[index, index],
    "y[i] = v": put,
    "y[:, i] = c": put_columns,
    "y[i, i] = c": put_pairs,
    "index_put": lambda x, index: x.index_put((index,), torch.ones(3, 4)),
    "index_add": lambda x, index: x.index_add(0, index, x[:3]),
    "index_select": lambda x, index: x.index_select(0, index),
    "scatter": lambda x, index: x.scatter(0, index[:, None].repeat(1, 4), torch.ones(3, 4)),
    "gather": lambda x, index: x.gather(0, index[:, None].repeat(1, 4)),
    "embedding": lambda x, index: functional.embedding(index, x),
    "argmax": lambda x, index: x[x.argmax(0).int()] + index.sum(),
    "constant": lambda x, index: x[torch.tensor([1, 0], dtype=torch.int32)] + index.sum(),
    "twice": lambda x, index: x.index_put((index,), torch.ones(3, 4)) + put(x, index),
}
# The TorchScript exporter writes index_add wrongly, for int64 too.
BOTH = [
    (name, *how)
    for name in FORMS
    for how in (("dynamo", 18), ("torchscript", 17))
    if (name, how[0]) != ("index_add", "torchscript")
]


@pytest.mark.parametrize(("form", "exporter", "opset"), BOTH)
def test_int32_index_matches_torch(form, exporter, opset, tmp_path):
    file, module, index = tmp_path / "model.onnx", Of(FORMS[form]), ROWS.int()
    expected = module(X, index).numpy()
    export_onnx(module.eval(), [X, index], ["x", "index"], ["y"], exporter, opset, file)
    found = run_onnx(file, {"x": X.numpy(), "index": index.numpy()}, ["y"])
    np.testing.assert_array_equal(found["y"], expected)


@pytest.mark.parametrize("form", ["x[i]", "y[i] = v"])
def test_tensorrt_builds_a_cast_index(form, tmp_path):
    file = tmp_path / "model.onnx"
    module, inputs = Of(FORMS[form]), [X, ROWS.int()]
    export_onnx(module.eval(), inputs, ["x", "index"], ["y"], "dynamo", 18, file)
    assert build_engine(file, tmp_path / "model.engine").layers > 0


def test_int64_index_gets_no_cast(tmp_path):
    file = tmp_path / "model.onnx"
    export_onnx(Of(put).eval(), [X, ROWS], ["x", "index"], ["y"], "dynamo", 18, file)
    assert [node for node in onnx.load(file).graph.node if node.name.endswith("_int64")] == []


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_cast_has_the_origin_of_its_node(exporter, tmp_path):
    file = tmp_path / "model.onnx"
    module = Of(FORMS["twice"]).eval()
    export_onnx(module, [X, ROWS.int()], ["x", "index"], ["y"], exporter, 17, file)
    nodes = onnx.load(file).graph.node
    casts = [node for node in nodes if node.op_type == "Cast" and node.name.endswith("_int64")]
    origins = {origin_of(node) for node in nodes if node.op_type == "ScatterND"}
    assert casts
    assert {origin_of(cast) for cast in casts} <= origins


def value(name, of_type, shape):
    return helper.make_tensor_value_info(name, of_type, shape)


def model_of(nodes, inputs, outputs):
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("of_type", [TensorProto.INT16, TensorProto.UINT8, TensorProto.INT8])
@pytest.mark.parametrize("op", ["Gather", "GatherND", "GatherElements"])
def test_types_that_no_index_may_have_are_cast(op, of_type):
    model = model_of(
        [helper.make_node(op, ["x", "i"], ["y"])],
        [value("x", TensorProto.FLOAT, [5]), value("i", of_type, [1])],
        [value("y", TensorProto.FLOAT, [] if op == "GatherND" else [1])],
    )
    assert problem_of(model) is not None
    cast_inputs(model)
    assert problem_of(model) is None


def test_inferred_types_are_found_in_branches():
    # Neither the file's values nor the branch say what "j" is.
    inner = helper.make_node("GatherND", ["x", "j"], ["inner"])
    branch = helper.make_graph([inner], "branch", [], [value("inner", TensorProto.FLOAT, [2])])
    model = model_of(
        [
            helper.make_node("Add", ["i", "i"], ["j"]),
            helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
            helper.make_node("GatherND", ["x", "j"], ["z"]),
        ],
        [
            value("x", TensorProto.FLOAT, [5]),
            value("i", TensorProto.INT32, [2, 1]),
            value("c", TensorProto.BOOL, []),
        ],
        [value("y", TensorProto.FLOAT, [2]), value("z", TensorProto.FLOAT, [2])],
    )
    assert problem_of(model) is not None
    cast_inputs(model)
    assert problem_of(model) is None


class Pooled(nn.Module):
    def forward(self, features, rois, images):
        return roi_align(features, rois, images, 2, 2, 0.5, 2, 0)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("rois", "images", "casts"),
    [
        (torch.float32, torch.int32, []),
        (torch.float16, torch.int64, [TensorProto.FLOAT, TensorProto.INT32]),
        (torch.float64, torch.int32, [TensorProto.FLOAT]),
    ],
)
def test_a_custom_ops_inputs_are_cast_to_its_contract(exporter, rois, images, casts, tmp_path):
    features = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[1.0, 2, 15, 16], [0, 0, 7, 5], [3, 4, 19, 18]]).to(rois)
    inputs = [features, boxes, torch.tensor([1, 0, 1], dtype=images)]
    file = tmp_path / "model.onnx"
    names = ["features", "rois", "images"]
    export_onnx(Pooled().eval(), inputs, names, ["pooled"], exporter, 18, file)
    nodes = onnx.load(file).graph.node
    found = [node.attribute[0].i for node in nodes if node.op_type == "Cast"]
    assert found == casts
    values = dict(zip(names, (each.numpy() for each in inputs)))
    actual = run_onnx(file, values, ["pooled"])["pooled"]
    np.testing.assert_allclose(actual, Pooled()(*inputs).numpy(), rtol=1e-4, atol=1e-5)


class Suppressed(nn.Module):
    def forward(self, boxes, scores):
        return padded_nms(boxes, scores, 0.5, 0.1, 6, 0)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("boxes", "scores", "casts"),
    [
        (torch.float16, torch.float16, 0),
        (torch.float32, torch.float16, 1),
        (torch.float16, torch.float32, 1),
        (torch.float64, torch.float64, 2),
        (torch.float32, torch.float64, 1),
        (torch.int32, torch.float16, 2),
    ],
)
def test_boxes_and_scores_of_other_types_become_float32(exporter, boxes, scores, casts, tmp_path):
    draw = torch.Generator().manual_seed(0)
    corner = torch.rand(1, 1, 20, 2, generator=draw) * 20
    sides = torch.rand(1, 1, 20, 2, generator=draw) * 20
    inputs = torch.cat([corner, corner + sides], 3).to(boxes), torch.rand(1, 2, 20).to(scores)
    file = tmp_path / "model.onnx"
    names = ["boxes", "scores"], ["indices", "count"]
    export_onnx(Suppressed().eval(), inputs, *names, exporter, 18, file)
    nodes = onnx.load(file).graph.node
    found = [node.attribute[0].i for node in nodes if node.op_type == "Cast"]
    assert found == [TensorProto.FLOAT] * casts
    actual = run_onnx(file, dict(zip(names[0], (each.numpy() for each in inputs))), names[1])
    for name, expected in zip(names[1], Suppressed()(*inputs)):
        np.testing.assert_array_equal(actual[name], expected.numpy())
