"""Failures that raise no error: each is made, and must be found."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from trtyard.known_failures.advice import symptom_in_words
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.families import own, torchvision_detector
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.onnx_model.symptoms import model_symptoms
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.symptoms import (
    box_symptoms,
    is_frozen,
    padding_symptoms,
    shaped_by_values,
    symptoms_of,
    tied_keypoints,
)

node = helper.make_node


def tensor(name, shape, of_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, of_type, shape)


def model_of(nodes, inputs, outputs, *, opset=18, constants=(), domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(constants))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


ONE = numpy_helper.from_array(np.ones(4, np.float32), "one")


def names(symptoms):
    return [symptom.name for symptom in symptoms]


def test_an_output_that_no_input_reaches_is_frozen():
    model = model_of(
        [node("Relu", ["x"], ["y"]), node("Add", ["one", "one"], ["z"])],
        [tensor("x", [4])],
        [tensor("y", [4]), tensor("z", [4])],
        constants=[ONE],
    )
    (found,) = model_symptoms(model)
    assert (found.name, found.detail) == ("results-frozen", "output z depends on no input")


def test_output_through_a_subgraph_is_not_frozen():
    then = helper.make_graph([node("Relu", ["x"], ["a"])], "then", [], [tensor("a", [4])])
    otherwise = helper.make_graph([node("Neg", ["x"], ["b"])], "else", [], [tensor("b", [4])])
    model = model_of(
        [
            node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
            node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise),
        ],
        [tensor("x", [4])],
        [tensor("y", [4])],
    )
    assert model_symptoms(model) == []


@pytest.mark.parametrize(("opset", "found"), [(15, ["rois-half-a-pixel-off"]), (16, [])])
def test_roi_align_before_opset_16_is_found(opset, found):
    model = model_of(
        [node("RoiAlign", ["x", "rois", "images"], ["y"], output_height=7, output_width=7)],
        [
            tensor("x", [1, 8, 9, 9]),
            tensor("rois", [5, 4]),
            tensor("images", [5], TensorProto.INT64),
        ],
        [tensor("y", [5, 8, 7, 7])],
        opset=opset,
    )
    assert names(model_symptoms(model)) == found


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"iou_threshold": 0.5}, ["nms-of-ones-own"]),
        ({"domain": "mine"}, ["nms-of-ones-own"]),
        ({"center_point_box": 1}, []),
    ],
)
def test_custom_op_named_nms_is_found(attributes, found):
    model = model_of(
        [node("NonMaxSuppression", ["b", "s"], ["y"], **attributes)],
        [tensor("b", [1, 9, 4]), tensor("s", [1, 1, 9])],
        [tensor("y", [None, 3], TensorProto.INT64)],
        domains=["mine"],
    )
    assert names(model_symptoms(model)) == found


class FrozenSelection(nn.Module):
    """The rows of the highest values, chosen outside the tracer's sight as an opaque NMS does."""

    def forward(self, boxes):
        order = boxes.detach().numpy()[:, 0].argsort().tolist()
        return boxes[torch.tensor(order[:3])]


class Selection(nn.Module):
    def forward(self, boxes):
        return boxes[torch.topk(boxes[:, 0], 3)[1]]


def converted(module, tmp_path):
    torch.manual_seed(0)
    model = Model(
        name="net.py:make",
        kind=own.KIND.name,
        module=module.eval(),
        input_names=("x",),
        output_names=("y",),
        inputs=(torch.rand(8, 4),),
        weights=Weights("none", ""),
        picture=None,
        scale=(1.0, 1.0),
    )
    file = tmp_path / "model.onnx"
    export_onnx(model.module, model.inputs, ("x",), ("y",), "torchscript", 18, file)
    outputs = {
        "torch": {"y": model.module(*model.inputs).numpy()},
        "onnxruntime": run_onnx(file, {"x": model.inputs[0].numpy()}, ("y",)),
    }
    comparison = compare_outputs(own.KIND.name, ("torch", "onnxruntime"), *outputs.values())
    return model, file, outputs, comparison


def test_a_selection_that_was_frozen_is_found_and_explained(tmp_path):
    model, file, outputs, comparison = converted(FrozenSelection(), tmp_path)
    assert not comparison.passed
    assert is_frozen(model, file)
    (sentence,) = map(symptom_in_words, symptoms_of(model, file, outputs, [comparison]))
    assert "agrees with PyTorch on the values that it was exported with" in sentence
    assert "results-frozen" in sentence


def test_dynamic_selection_is_no_symptom(tmp_path):
    model, file, outputs, comparison = converted(Selection(), tmp_path)
    assert comparison.passed
    assert symptoms_of(model, file, outputs, [comparison]) == ()


class Noisy(nn.Module):
    def forward(self, boxes):
        return nn.functional.dropout(boxes, 0.5)


class Counting(nn.Module):
    runs = 0

    def forward(self, boxes):
        self.runs += 1
        return boxes * self.runs


@pytest.mark.parametrize("module", [Noisy, Counting])
def test_nondeterministic_module_is_reported(module, tmp_path):
    model, file, outputs, comparison = converted(module(), tmp_path)
    assert not comparison.passed
    (sentence,) = map(symptom_in_words, symptoms_of(model, file, outputs, [comparison]))
    assert sentence.startswith("PyTorch run again gives another result: forward draws random")
    assert "results-vary" in sentence


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4).requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, boxes):
        return self.norm(boxes * 5)


def test_a_module_that_stays_in_training_mode_is_named(tmp_path):
    model, file, outputs, _ = converted(Normed(), tmp_path)
    wrong = {"y": outputs["torch"]["y"] + 1}
    comparison = compare_outputs(own.KIND.name, ("torch", "onnxruntime"), outputs["torch"], wrong)
    (sentence,) = map(symptom_in_words, symptoms_of(model, file, outputs, [comparison]))
    assert sentence.startswith("in training mode: norm: a module stays in training mode")
    assert "left-in-training" in sentence


class FrozenMean(nn.Module):
    def forward(self, boxes):
        return torch.full((2,), float(boxes.mean()))


def test_constant_in_pytorch_is_no_symptom(tmp_path):
    class Ones(nn.Module):
        def forward(self, boxes):
            return torch.ones(3)

    for module, found in ((Ones(), 0), (FrozenMean(), 2)):
        model, file, outputs, comparison = converted(module, tmp_path)
        symptoms = symptoms_of(model, file, outputs, [comparison])
        assert len(symptoms) == found, symptoms


def test_other_differences_are_not_frozen_values(tmp_path):
    model, file, outputs, _ = converted(Selection(), tmp_path)
    changed = onnx.load(file)
    changed.graph.node.append(node("Neg", ["y"], ["minus"]))
    changed.graph.output[0].name = "minus"
    onnx.save(changed, file)
    model = model._replace(output_names=("minus",))
    outputs = {
        "torch": {"minus": outputs["torch"]["y"]},
        "onnxruntime": run_onnx(file, {"x": model.inputs[0].numpy()}, ("minus",)),
    }
    comparison = compare_outputs(own.KIND.name, ("torch", "onnxruntime"), *outputs.values())
    assert not comparison.passed
    assert symptoms_of(model, file, outputs, [comparison]) == ()


RIGHT = np.array([[0.0, 0, 10, 20], [5, 5, 30, 40]])


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        (RIGHT, []),
        (RIGHT * 0, ["boxes-all-zero"]),
        (RIGHT + np.array([0, 0, 0, 30]), ["boxes-outside"]),
        (RIGHT - np.array([30, 0, 0, 0]), ["boxes-outside"]),
        (RIGHT + 0.5, []),
    ],
)
def test_boxes_that_are_zero_or_outside_are_found(boxes, found):
    assert names(box_symptoms({"boxes": RIGHT}, {"boxes": boxes}, (40, 30), "tensorrt")) == found


def test_zero_or_outside_boxes_in_pytorch_are_no_symptom():
    for boxes in (RIGHT * 0, RIGHT * 10):
        assert box_symptoms({"boxes": boxes}, {"boxes": boxes}, (40, 30), "tensorrt") == []


@pytest.mark.parametrize(("alive", "found"), [(49, ["slower-than-pytorch"]), (50, []), (100, [])])
def test_many_padded_proposals_are_found(alive, found):
    outputs = {"torch": {"proposals": np.array([alive])}}
    assert names(padding_symptoms(outputs, 100)) == found


class Keypoints(nn.Module):
    """The last step of torchvision's Keypoint R-CNN."""

    def forward(self, maps, boxes):
        return heatmaps_to_keypoints(maps, boxes)


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """Return the outputs of PyTorch and ONNX Runtime for maps of which some have two best places.

    Those are the same from right to left, so that only rounding tells the two places apart.
    """
    torch.manual_seed(0)
    maps = torch.rand(4, 17, 56, 56)
    maps[0, :6, :, 28:] = maps[0, :6, :, :28].flip(-1)
    boxes = torch.tensor([[0.0, 0, 40, 30], [5, 5, 60, 70], [3.3, 4.1, 90, 62], [10, 10, 66, 66]])
    file = tmp_path_factory.mktemp("tied") / "model.onnx"
    outputs = ("keypoints", "keypoints_scores")
    export_onnx(Keypoints(), (maps, boxes), ("maps", "boxes"), outputs, "torchscript", 18, file)
    with torch.no_grad():
        expected = dict(zip(outputs, (each.numpy() for each in Keypoints()(maps, boxes))))
    found = run_onnx(file, {"maps": maps.numpy(), "boxes": boxes.numpy()}, outputs)
    detections = {
        "boxes": boxes.numpy(),
        "labels": np.ones(4, np.int64),
        "scores": np.array([0.9, 0.8, 0.7, 0.6], np.float32),
    }
    return {**detections, **expected}, {**detections, **found}


def compared(reference, candidate):
    return compare_outputs(
        torchvision_detector.KIND.name, ("torch", "onnxruntime"), reference, candidate
    )


def test_a_keypoint_that_a_tie_moved_is_found(tied):
    comparison = compared(*tied)
    assert not comparison.passed
    (found,) = tied_keypoints(comparison)
    assert found.name == "keypoint-of-a-tie"
    assert "of 204 numbers of onnxruntime's keypoints differ" in found.detail
    moved = np.abs(tied[0]["keypoints"] - tied[1]["keypoints"]).max(axis=2) > 1
    assert moved[0, :6].any()
    assert not moved[1:].any()
    assert not moved[:, 6:].any()


class NotRun(nn.Module):
    def forward(self, images):
        raise AssertionError("what is explained is not looked into again")


def test_tied_keypoint_is_not_reported_as_frozen(tied, tmp_path):
    model = Model(
        name="keypointrcnn_resnet50_fpn",
        kind=torchvision_detector.KIND.name,
        module=NotRun(),
        input_names=("images",),
        output_names=tuple(tied[0]),
        inputs=(torch.rand(1, 3, 100, 100),),
        weights=Weights("none", ""),
        picture=None,
        scale=(1.0, 1.0),
    )
    file = tmp_path / "model.onnx"
    onnx.save(model_of([node("Relu", ["x"], ["y"])], [tensor("x", [4])], [tensor("y", [4])]), file)
    outputs = dict(zip(("torch", "onnxruntime"), tied))
    (sentence,) = map(symptom_in_words, symptoms_of(model, file, outputs, [compared(*tied)]))
    assert "keypoint-of-a-tie" in sentence


@pytest.mark.parametrize("wrong", ["all keypoints", "a score", "a box"])
def test_other_keypoint_differences_are_not_ties(tied, wrong):
    reference, candidate = tied[0], {name: value.copy() for name, value in tied[1].items()}
    if wrong == "all keypoints":
        candidate["keypoints"][..., :2] += 1
    elif wrong == "a score":
        candidate["keypoints_scores"][0, 0] += 1
    else:
        candidate["boxes"][0, 0] += 1
    assert tied_keypoints(compared(reference, candidate)) == []


def test_equal_keypoints_are_not_ties(tied):
    assert tied_keypoints(compared(tied[0], tied[0])) == []


class Unpacked(nn.Module):
    """As long as the longest of its sequences."""

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0]


def test_a_shape_that_depends_on_values_is_found():
    inputs = (torch.rand(3, 5, 4), torch.tensor([3, 1, 2]))
    weights = Weights("none", "0")
    model = Model(
        "net", own.KIND.name, Unpacked(), ("x", "n"), ("y",), inputs, weights, None, (1.0, 1.0)
    )
    (found,) = shaped_by_values(model, {"y": Unpacked()(*inputs).numpy()})
    assert found.name == "shape-by-values"
    assert "y is [3, 3, 4] in PyTorch, [3, 1, 4] for others" in found.detail
    fixed = model._replace(module=nn.Linear(4, 2).eval(), inputs=inputs[:1])
    reference = {"y": fixed.module(*fixed.inputs).detach().numpy()}
    assert shaped_by_values(fixed, reference) == []
