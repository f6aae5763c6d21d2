"""Sizes that a trace wrote down as constants: each is made, and its node must be found."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from trtyard.known_failures.advice import symptom_in_words
from trtyard.pipeline.dynamic.comparison import SizedRuns
from trtyard.pipeline.dynamic.dimensions import Dynamic, Range
from trtyard.pipeline.dynamic.frozen import frozen_sizes
from trtyard.pipeline.dynamic.symptoms import size_symptoms
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.families import own
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.onnx_model.runner import run_onnx


class Numbered(nn.Module):
    """Adds each row's number, out of a table that the trace makes once."""

    def forward(self, x):
        return x + torch.arange(int(x.shape[0]), dtype=torch.float32)[:, None]


class Scaled(nn.Module):
    def forward(self, x):
        return x * x.shape[0]


def model_of(module):
    def draw(sizes, seed):
        generator = torch.Generator()
        generator.manual_seed(seed)
        return (torch.randn(sizes["batch"], 4, generator=generator),)

    return Model(
        name="net.py:make",
        kind=own.KIND.name,
        module=module.eval(),
        input_names=("x",),
        output_names=("y",),
        inputs=draw({"batch": 2}, 0),
        weights=Weights("none", ""),
        picture=None,
        scale=(1.0, 1.0),
        dynamic=Dynamic(({0: "batch"},), ({"batch": Range(1, 2, 8)},), draw),
    )


def converted(module, tmp_path):
    model = model_of(module)
    runs = SizedRuns(model)

    def torch_run(one):
        return {"y": one.module(*one.inputs).numpy()}

    runs.compute_references(torch_run, torch_run(model))
    file = tmp_path / "model.onnx"
    sizes, inputs = runs.traced()
    assert sizes == {"batch": 3}
    export_onnx(module, inputs, ("x",), ("y",), "torchscript", 17, file, axes=runs.axes())
    runs.compare("onnxruntime", lambda given: run_onnx(file, given, ("y",)), False)
    return size_symptoms(model, file, runs), runs


def test_a_table_of_the_traced_length_is_found(tmp_path):
    (found,), runs = converted(Numbered(), tmp_path)
    assert not any(each.passed for each in runs.parities if each.sizes["batch"] > 1)
    assert found.name == "size-frozen"
    assert "batch is fixed to 3, its size in the trace, by Add (node /Add)" in found.detail
    assert "test_frozen_sizes.py:" in found.detail
    assert "x.flatten(1)" in symptom_in_words(found)


def test_a_size_that_the_trace_follows_is_no_symptom(tmp_path):
    found, runs = converted(Scaled(), tmp_path)
    assert found == ()
    assert [each.sizes["batch"] for each in runs.parities] == [2, 1, 8, 4, 6]
    assert all(each.passed for each in runs.parities)


def file_with(constants, nodes, tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize("is_right", [True, False])
def test_constant_without_proof_is_only_suspected(tmp_path, is_right):
    node = helper.make_node("Mul", ["x", "number"], ["y"], name="times")
    file = file_with({"number": np.float32(3)}, [node], tmp_path)
    wanted = X * 2 if is_right else X * 7

    def agrees(outputs):
        return np.array_equal(outputs["y"], wanted)

    (found,) = frozen_sizes(file, {"x": X}, ["y"], {"batch": 3}, {"batch": 2}, agrees)
    assert (found.dimension, found.op, found.node) == ("batch", "Mul", "times")
    assert found.is_proven is is_right
    assert str(found) == "Mul (node times)"


def test_of_many_suspects_those_that_are_needed_are_named(tmp_path):
    constants = {
        "number": np.float32(3),
        "ones": np.ones((3, 4), np.float32),
        "other": np.float32(3),
    }
    nodes = [
        helper.make_node("Mul", ["x", "number"], ["a"], name="times"),
        helper.make_node("Add", ["a", "ones"], ["b"], name="plus"),
        helper.make_node("Mul", ["other", "other"], ["unused"], name="unused"),
        helper.make_node("Identity", ["b"], ["y"], name="same"),
    ]
    file = file_with(constants, nodes, tmp_path)

    def agrees(outputs):
        return np.array_equal(outputs["y"], X * 2 + 1)

    found = frozen_sizes(file, {"x": X}, ["y"], {"batch": 3}, {"batch": 2}, agrees)
    assert [each.node for each in found] == ["times", "plus"]
    assert all(each.is_proven for each in found)


def test_weights_of_the_traced_size_are_not_suspected(tmp_path):
    node = helper.make_node("Add", ["x", "bias"], ["y"], name="plus")
    file = file_with({"bias": np.zeros(4, np.float32)}, [node], tmp_path)
    sizes = {"batch": 4}, {"batch": 2}
    assert frozen_sizes(file, {"x": X}, ["y"], *sizes, lambda outputs: False) == []


def test_a_file_without_the_traced_size_has_no_suspect(tmp_path):
    node = helper.make_node("Mul", ["x", "number"], ["y"], name="times")
    file = file_with({"number": np.float32(5)}, [node], tmp_path)
    sizes = {"batch": 3}, {"batch": 2}
    assert frozen_sizes(file, {"x": X}, ["y"], *sizes, lambda outputs: False) == []
