"""The model at another batch size, or why it has none."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from trtyard.core.request import BenchRequest
from trtyard.pipeline.latency.batches import at_batch, batch_of, refuse_same_shapes
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.stages import NotRunError

NETS = """
import torch


class Pair(torch.nn.Module):
    def forward(self, numbers, words, scale):
        return numbers + words.float() * scale


def pair():
    return Pair()


def linear():
    return torch.nn.Linear(4, 2)


class Scalar(torch.nn.Module):
    def forward(self, x):
        return x + 1


def scalar():
    return Scalar()
"""


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return lambda name: f"{file}:{name}"


def batched(spec, batch, **options):
    model = load_model(spec, input_shape=options.get("input"), size=options.get("size"))
    return model, at_batch(model, BenchRequest(model=spec, **options), batch)


def written(folder, first):
    file = folder / "net.onnx"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(file))
    return str(file)


def test_own_batch_is_the_converted_model(nets):
    model, found = batched(nets("linear"), 3, input="3x4")
    assert batch_of(model) == 3
    assert found.model is model
    assert found.is_in_files


def test_own_inputs_are_repeated_with_their_types(nets):
    model, found = batched(nets("pair"), 5, input="2x4,2x4:int64:9,4")
    numbers, words, scale = found.model.inputs
    assert not found.is_in_files
    assert numbers.shape == words.shape == (5, 4)
    assert words.dtype == torch.int64
    assert torch.equal(numbers[4], model.inputs[0][0])
    assert scale.shape == (4,)
    assert numbers.data_ptr() != model.inputs[0].data_ptr()


def test_classifier_is_loaded_with_the_batch():
    model, found = batched("squeezenet1_0", 2, size=64)
    assert found.model.inputs[0].shape == (2, 3, 64, 64)
    assert found.model.weights == model.weights
    assert not found.is_in_files


def test_faster_rcnn_is_loaded_with_the_batch():
    model, found = batched("faster_rcnn", 2, size=64, top_n=20)
    assert found.model.inputs[0].shape == (2, *model.inputs[0].shape[1:])
    assert found.model.proposal_rows == 20


def test_range_takes_every_batch_in_it(nets):
    model, found = batched(nets("linear"), 7, input="1:2:8x4")
    assert found.is_in_files
    assert found.model.module is model.module
    assert found.model.inputs[0].shape == (7, 4)


def test_of_several_profiles_one_that_has_the_batch_is_taken(nets):
    _, found = batched(nets("linear"), 30, input="1..4x4;16..32x4")
    assert found.model.inputs[0].shape == (30, 4)


@pytest.mark.parametrize(
    ("name", "text", "batch", "said"),
    [
        ("linear", "1..8x4", 9, r"range 1\.\.8 for the batch"),
        ("linear", "1x3..5x4", 2, "fixes the batch to 1"),
    ],
)
def test_batch_outside_of_the_ranges_says_so(nets, name, text, batch, said):
    with pytest.raises(NotRunError, match=said):
        batched(nets(name), batch, input=text)


def test_detector_of_one_picture_says_so():
    with pytest.raises(NotRunError, match="takes one picture at a time"):
        batched("ssdlite320_mobilenet_v3_large", 2)


def test_onnx_file_with_an_open_batch_takes_another(tmp_path):
    model, found = batched(written(tmp_path, "n"), 6, input="x=2x4")
    assert found.model.inputs[0].shape == (6, 4)
    assert found.model.file.content is not model.file.content


def test_onnx_file_with_a_fixed_batch_says_so(tmp_path):
    with pytest.raises(NotRunError, match="fixed batch of 2"):
        batched(written(tmp_path, 2), 6)


def test_outputs_that_ignore_the_batch_are_refused():
    before = {"y": np.zeros((1, 3))}
    refuse_same_shapes(before, {"y": np.zeros((8, 3))}, 1, 8)
    with pytest.raises(NotRunError, match="computes no batch"):
        refuse_same_shapes(before, {"y": np.zeros((1, 3))}, 1, 8)
