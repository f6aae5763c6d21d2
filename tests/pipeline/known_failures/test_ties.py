"""Choices among equal values are proven from the values, and nothing else passes for one."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.families import own
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.symptoms import tied_choices

torch.manual_seed(0)
X = torch.randn(2, 40)


def masked(x):
    """Return scores most of which are 0, as masked anchors' are."""
    return torch.where(x > 1.0, x, torch.zeros_like(x))


def taken(x):
    """Return the best values, and what another tensor has at their places."""
    values, indices = masked(x).topk(12, -1)
    return values, x.gather(-1, indices)


def at_the_places(x):
    return masked(x).topk(12, -1)


def smallest(x):
    return (-masked(x)).topk(12, -1, largest=False)


def columns(x):
    return masked(x.t()).topk(12, 0)


def ordered(x):
    values, indices = masked(x).sort(-1, descending=True)
    return values, x.gather(-1, indices)


def twice(x):
    """Return a choice that follows from another one."""
    _, indices = masked(x).topk(20, -1)
    left = x.gather(-1, indices)
    return left.clamp(min=0).topk(15, -1)


def rounded(x):
    """Return the order of sums that are the same but for rounding."""
    weights = torch.linspace(0.1, 1.7, 40)
    rows = torch.stack([x[0].roll(shift) * weights.roll(shift) for shift in range(40)])
    return rows.matmul(torch.ones(40, 1)).t().topk(20, -1)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def converted(function, file, exporter):
    """Export a function; return its model, PyTorch's outputs and ONNX Runtime's."""
    module = Of(function).eval()
    names = ("values", "chosen")
    export_onnx(module, [X], ["x"], names, exporter, 18 if exporter == "dynamo" else 17, file)
    weights = Weights("none", "0")
    model = Model("net", own.KIND.name, module, ("x",), names, (X,), weights, None, (1.0, 1.0))
    reference = dict(zip(names, [each.numpy() for each in module(X)]))
    return model, reference, run_onnx(file, {"x": X.numpy()}, names)


def agree(reference, found):
    return compare_outputs(own.KIND.name, ("torch", "onnxruntime"), reference, found).passed


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("function", [taken, at_the_places, smallest, columns, twice])
def test_a_choice_among_equal_values_is_found(function, exporter, tmp_path):
    model, reference, found = converted(function, tmp_path / "model.onnx", exporter)
    assert not agree(reference, found)
    (symptom,) = tied_choices(model, tmp_path / "model.onnx", reference)
    assert symptom.name == "choice-of-a-tie"
    assert symptom.detail.startswith(f"TopK at {__file__}:")


@pytest.mark.parametrize("function", [ordered, rounded])
def test_tie_is_reported_only_with_proof(function, tmp_path):
    # Whether the runtimes choose alike here is theirs to say.
    model, reference, found = converted(function, tmp_path / "model.onnx", "dynamo")
    ties = tied_choices(model, tmp_path / "model.onnx", reference)
    assert bool(ties) != agree(reference, found)


def changed(file, change):
    model = onnx.load(file)
    change(model.graph)
    onnx.save(model, file)


def halve_the_threshold(graph):
    """Make the file compute something else: there are ties still."""
    (threshold,) = [
        tensor
        for tensor in graph.initializer
        if np.array_equal(numpy_helper.to_array(tensor).ravel(), [1.0])
    ]
    threshold.CopyFrom(numpy_helper.from_array(np.array(0.5, np.float32), threshold.name))


def choose_the_smallest(graph):
    (node,) = [node for node in graph.node if node.op_type == "TopK"]
    (largest,) = [each for each in node.attribute if each.name == "largest"]
    largest.i = 0


def shift_the_output(graph):
    """Add one to the gathered values: wrong whichever of the equal ones are chosen."""
    graph.initializer.append(numpy_helper.from_array(np.array(1.0, np.float32), "one"))
    (node,) = [node for node in graph.node if node.output[0] == "chosen"]
    node.output[0] = "unshifted"
    graph.node.append(onnx.helper.make_node("Add", ["unshifted", "one"], ["chosen"]))


@pytest.mark.parametrize(
    "change", [halve_the_threshold, choose_the_smallest, shift_the_output], ids=lambda f: f.__name__
)
def test_wrong_result_next_to_ties_is_not_a_tie(change, tmp_path):
    file = tmp_path / "model.onnx"
    model, reference, _ = converted(taken, file, "dynamo")
    assert tied_choices(model, file, reference)
    changed(file, change)
    assert not agree(reference, run_onnx(file, {"x": X.numpy()}, model.output_names))
    assert tied_choices(model, file, reference) == []


def test_choices_of_different_values_are_not_ties(tmp_path):
    file = tmp_path / "model.onnx"
    model, reference, _ = converted(taken, file, "dynamo")
    other = dict(reference, chosen=reference["chosen"][:, ::-1].copy())
    assert tied_choices(model, file, other) == []
