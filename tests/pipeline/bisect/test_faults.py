"""The first wrong node of a file, with its line and its cause."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

pytest.importorskip("torch.utils._python_dispatch", reason="this torch cannot record operators")

from trtyard.core.report import Bisection
from trtyard.pipeline.bisect.bisection import bisect
from trtyard.pipeline.bisect.case import write_case
from trtyard.pipeline.bisect.faults import find_faults
from trtyard.pipeline.bisect.recording import record
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.runner import run_onnx

HERE = Path(__file__).parent
SOURCE = HERE / "models.py"
EXPORTERS = ["torchscript"]
if hasattr(torch, "export") and hasattr(torch.onnx, "ops"):
    EXPORTERS.append("dynamo")
OPSETS = {"torchscript": 17, "dynamo": 18}
SHAPE = "1x3x16x16"


def line_of(mark):
    """Return "models.py:12" for the line that ends in the comment."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))
    return f"models.py:{number} "


def exported(tmp_path, call, exporter, shape=SHAPE):
    """Return the model, and the file that the exporter makes of it."""
    model = load_model(f"{SOURCE}:{call}", input_shape=shape)
    file = tmp_path / "model.onnx"
    export_onnx(
        *(model.module, model.inputs, model.input_names, model.output_names),
        *(exporter, OPSETS[exporter], file),
    )
    return model, file


def causes(model, file):
    """Return name and line of each fault's cause."""
    found = find_faults(model, onnx.load(str(file)))
    return [(one.cause.name, one.cause.origin) for one in found.faults]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("slice", "in-place-write-lost"),
        ("clamp", "boxes-outside"),
        ("constant", "value-frozen"),
        ("sigmoid", "operator-lost"),
    ],
)
def test_planted_fault_is_named_with_its_line(tmp_path, exporter, fault, name):
    ((found, origin),) = causes(*exported(tmp_path, f"detector(faults='{fault}')", exporter))
    assert found == name
    assert line_of(fault) in origin


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_two_faults_are_both_found_in_order(tmp_path, exporter):
    model, file = exported(tmp_path, "detector(faults='slice constant')", exporter)
    (first, at_first), (second, at_second) = causes(model, file)
    assert (first, second) == ("value-frozen", "in-place-write-lost")
    assert line_of("constant") in at_first
    assert line_of("slice") in at_second


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("call", ["detector()", "ops()", "thirty()"])
def test_correct_model_has_no_fault(tmp_path, exporter, call):
    shape = "1x8x8x8" if call == "thirty()" else SHAPE
    model, file = exported(tmp_path, call, exporter, shape)
    found = find_faults(model, onnx.load(str(file)))
    assert found.faults == []
    assert found.compared >= 7


def test_value_of_item_is_frozen_by_the_tracer(tmp_path):
    ((name, origin),) = causes(*exported(tmp_path, "item()", "torchscript"))
    assert name == "value-frozen"
    assert line_of("item") in origin


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("indexed()", ["repeated-indices", "repeated-indices", "negative-indices"]),
        ("rounded()", ["rounded-toward-zero", "rounded-toward-zero", "softplus-threshold"]),
    ],
)
def test_operator_written_as_another_is_named(tmp_path, call, names):
    model, file = exported(tmp_path, call, "torchscript")
    assert [name for name, _ in causes(model, file)] == names


@pytest.mark.skipif("dynamo" not in EXPORTERS, reason="this torch has no dynamo exporter")
def test_lost_mean_is_named(tmp_path):
    assert causes(*exported(tmp_path, "mean()", "dynamo")) == [("scatter-mean", "")]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("op", "attribute", "value", "name"),
    [
        ("LeakyRelu", "alpha", 0.2, "attribute-differs"),
        ("Softmax", "axis", 2, "attribute-differs"),
        ("Conv", "pads", [0, 0, 2, 2], "attribute-differs"),
        ("Resize", "mode", "nearest", "interpolation-differs"),
        ("Resize", "coordinate_transformation_mode", "asymmetric", "interpolation-differs"),
    ],
)
def test_edited_attribute_is_found(tmp_path, exporter, op, attribute, value, name):
    model, file = exported(tmp_path, "ops()", exporter)
    content = onnx.load(str(file))
    node = next(one for one in content.graph.node if one.op_type == op)
    edit(node, attribute, value)
    (fault,) = find_faults(model, content).faults
    assert content.graph.node[fault.compared.node].name == node.name
    assert fault.cause.name == name
    assert f"the attribute {attribute} of the node is " in fault.cause.detail


def test_choice_among_equal_values_comes_last(tmp_path):
    model, file = exported(tmp_path, "tied()", "torchscript")
    content = onnx.load(str(file))
    edit(next(one for one in content.graph.node if one.op_type == "LeakyRelu"), "alpha", 0.2)
    names = [one.cause.name for one in find_faults(model, content).faults]
    assert names == ["attribute-differs", "choice-of-a-tie"]


def edit(node, attribute, value):
    for each in [one for one in node.attribute if one.name == attribute]:
        node.attribute.remove(each)
    node.attribute.append(helper.make_attribute(attribute, value))


def test_edited_weight_is_found_without_a_known_cause(tmp_path):
    model, file = exported(tmp_path, "ops()", "torchscript")
    content = onnx.load(str(file))
    weight = next(one for one in content.graph.initializer if "second.weight" in one.name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
    (fault,) = find_faults(model, content).faults
    assert content.graph.node[fault.compared.node].op_type == "Conv"
    assert fault.cause.name == ""


def test_error_grows_from_the_fault_to_the_outputs(tmp_path):
    model, file = exported(tmp_path, "detector(faults='clamp')", "torchscript")
    (fault,) = find_faults(model, onnx.load(str(file))).faults
    assert fault.growth[0].name == fault.suspect.name
    assert fault.growth[-1].name == "output_0"
    assert fault.growth[-1].whole.relative > 0.01


def test_case_shows_the_difference_alone(tmp_path):
    model, file = exported(tmp_path, "detector(faults='constant')", "torchscript")
    found = find_faults(model, onnx.load(str(file)))
    files = write_case(found.faults[0], found.graph, tmp_path, 1)
    assert files == ("bisect/case1.onnx", "bisect/case1.npz", "bisect/case1.py")
    case = tmp_path / files[0]
    values = np.load(str(tmp_path / files[1]))
    content = onnx.load(str(case))
    inputs = {one.name: values[f"input_{n}"] for n, one in enumerate(content.graph.input)}
    (output,) = [one.name for one in content.graph.output]
    own = run_onnx(case, inputs, [output])[output]
    worst = found.faults[0].compared.alone.worst
    assert own[worst.position] == np.float32(worst.candidate)
    assert values["pytorch"][worst.position] == np.float32(worst.reference)
    assert "models.py" not in str(content)


def test_agreeing_outputs_end_the_search(tmp_path):
    model, file = exported(tmp_path, "detector(faults='clamp')", "torchscript")
    found = bisect(model, file, tmp_path, True, lambda _: None)
    assert isinstance(found, Bisection)
    assert found.divergences == ()
    assert found.problem is None


def test_divergence_has_line_shapes_and_worst_value(tmp_path):
    model, file = exported(tmp_path, "detector(faults='slice')", "torchscript")
    (one,) = bisect(model, file, tmp_path, False, lambda _: None).divergences
    assert one.op == "ScatterND"
    assert one.shape == (1, 64, 4)
    assert one.worst.candidate == 0.0
    assert one.case[-1] == "bisect/case1.py"
    assert "models.py:" in one.origin


def test_only_values_that_pytorch_overwrites_are_marked(tmp_path):
    model, _file = exported(tmp_path, "detector()", "torchscript")
    names = {(one.name, one.is_overwritten) for one in record(model)}
    assert {("zeros_like", True), ("copy", True), ("select", True)} <= names
    assert {("convolution", False), ("relu", False), ("clamp", False)} <= names
    assert not {("convolution", True), ("relu", True), ("softmax", True)} & names
