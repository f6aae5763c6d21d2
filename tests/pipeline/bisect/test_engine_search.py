"""The first value in which a second runtime differs, found by looking at a few at a time.

ONNX Runtime with an edited file is the second runtime: it takes the place of an engine.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch.utils._python_dispatch", reason="this torch cannot record operators")

from one_node import one_node_model
from onnx import helper, numpy_helper
from test_faults import EXPORTERS, SHAPE, SOURCE, edit, exported

from trtyard.core.errors import ConversionError
from trtyard.core.report import Bisection, exit_code
from trtyard.core.request import ConversionRequest
from trtyard.pipeline import conversion as conversion_module
from trtyard.pipeline.bisect import engine_search
from trtyard.pipeline.bisect.engine_bisection import bisect_engine
from trtyard.pipeline.bisect.engine_causes import engine_cause
from trtyard.pipeline.bisect.engine_search import changed_layers, find_first_wrong
from trtyard.pipeline.bisect.looking import Seen
from trtyard.pipeline.bisect.pieces import Graph
from trtyard.pipeline.conversion import Conversion
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.row import Row
from trtyard.pipeline.tensorrt.layers import EngineLayer

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


class EditedFile:
    """Looks at values of an edited file in ONNX Runtime."""

    def __init__(self, file, inputs, lacks=(), refuses=()):
        self.graph = Graph(file)
        self.inputs = {name: inputs[name] for name in self.graph.inputs}
        self.lacks, self.refuses = lacks, refuses
        self.looks = []

    def __call__(self, names):
        self.looks.append(list(names))
        if set(names) & set(self.refuses):
            raise ConversionError("TensorRT cannot build model.onnx")
        wanted = [name for name in (*names, *self.graph.outputs) if name not in self.lacks]
        nodes = [n for n, one in enumerate(self.graph.nodes) if one.op_type != "Constant"]
        layers = [EngineLayer(one.name, (one.name,)) for one in self.graph.nodes]
        return Seen(self.graph.run(nodes, self.inputs, wanted), layers)


class Fused:
    """Is wrong unless one of the values is looked at, as by a fault of a fused layer."""

    def __init__(self, right, wrong, values):
        self.right, self.wrong, self.values = right, wrong, values

    def __call__(self, names):
        if not set(self.values) & set(names):
            return self.wrong(names)
        seen = self.right(names)
        return seen._replace(layers=[*seen.layers, EngineLayer("split", ())])


def case(tmp_path, call, exporter):
    """Return the file, a copy to edit, and the inputs."""
    model, path = exported(tmp_path, call, exporter)
    inputs = {name: one.numpy() for name, one in zip(model.input_names, model.inputs)}
    return onnx.load(str(path)), onnx.load(str(path)), inputs


def lose(file, op):
    """Replace the last node with that op by its first input: what it computes is lost."""
    node = [one for one in file.graph.node if one.op_type == op][-1]
    del node.input[1:]
    node.op_type = "Identity"
    node.ClearField("attribute")
    return node.output[0]


def freeze(file, op):
    """Make the first value of the op a constant."""
    index, node = next((n, one) for n, one in enumerate(file.graph.node) if one.op_type == op)
    value = numpy_helper.from_array(np.float32(0.37))
    constant = helper.make_node("Constant", [], [node.output[0]], name=node.name, value=value)
    file.graph.node.remove(node)
    file.graph.node.insert(index, constant)
    return node.output[0]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("plant", "op"), [(lose, "ScatterND"), (lose, "Clip"), (freeze, "ReduceMean")]
)
def test_lost_write_clamp_and_frozen_value_are_found(tmp_path, exporter, plant, op):
    file, edited, inputs = case(tmp_path, "detector()", exporter)
    wrong = plant(edited, op)
    look = EditedFile(edited, inputs)
    found = find_first_wrong(file, inputs, look)
    assert found.first.name == wrong
    assert found.first.persists
    assert found.first.inputs_error == 0
    assert not found.first.error.agrees
    assert found.first.growth[0][0] == wrong
    assert found.first.growth[-1][0] in Graph(file).outputs
    assert found.hidden_by == []
    assert max(map(len, look.looks)) <= 8


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("op", "attribute", "value"),
    [
        ("LeakyRelu", "alpha", 0.2),
        ("Softmax", "axis", 2),
        ("Conv", "pads", [0, 0, 2, 2]),
        ("Resize", "coordinate_transformation_mode", "asymmetric"),
    ],
)
def test_other_attribute_is_found(tmp_path, exporter, op, attribute, value):
    file, edited, inputs = case(tmp_path, "ops()", exporter)
    node = next(one for one in edited.graph.node if one.op_type == op)
    edit(node, attribute, value)
    found = find_first_wrong(file, inputs, EditedFile(edited, inputs))
    assert found.first.name == node.output[0]
    assert found.first.evidence.own.shape == found.first.evidence.right.shape


@pytest.mark.parametrize("call", ["detector()", "ops()"])
def test_right_runtime_has_no_wrong_value(tmp_path, call):
    file, edited, inputs = case(tmp_path, call, "torchscript")
    look = EditedFile(edited, inputs)
    found = find_first_wrong(file, inputs, look)
    assert found.first is None
    assert look.looks == [[]]


def test_deep_fault_needs_few_builds(tmp_path):
    model, path = exported(tmp_path, "thirty()", "torchscript", "1x8x8x8")
    inputs = {name: one.numpy() for name, one in zip(model.input_names, model.inputs)}
    file, edited = onnx.load(str(path)), onnx.load(str(path))
    node = [one for one in edited.graph.node if one.op_type == "Tanh"][12]
    node.op_type = "Sigmoid"
    look = EditedFile(edited, inputs)
    found = find_first_wrong(file, inputs, look)
    assert found.first.name == node.output[0]
    assert found.is_complete
    assert found.builds == len(look.looks) - 1 <= 5


def test_fault_is_found_below_a_right_value_that_masks_it(tmp_path):
    """A wrong value that one reader makes right again, while another one does not."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["b0"], name="relu"),
        *(helper.make_node("Abs", [f"b{n}"], [f"b{n + 1}"], name=f"abs{n}") for n in range(20)),
        helper.make_node("Add", ["b20", "a"], ["y"], name="last"),
    ]
    file = small(nodes, one=1.0)
    edited = small(nodes, one=0.5)
    inputs = {"x": np.full((4,), -3, np.float32)}
    found = find_first_wrong(file, inputs, EditedFile(edited, inputs))
    assert found.first.name == "a"


def small(nodes, one):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", 1, [4])],
        [helper.make_tensor_value_info("y", 1, [4])],
        [numpy_helper.from_array(np.float32(one), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_fault_that_marks_hide_is_named_with_them(tmp_path, exporter):
    file, edited, inputs = case(tmp_path, "ops()", exporter)
    node = next(one for one in edited.graph.node if one.op_type == "Resize")
    edit(node, "coordinate_transformation_mode", "asymmetric")
    (before,) = (one.output[0] for one in file.graph.node if one.op_type == "LeakyRelu")
    look = Fused(EditedFile(file, inputs), EditedFile(edited, inputs), [before])
    found = find_first_wrong(file, inputs, look)
    assert found.hidden_by == [before]
    assert found.first.name == node.output[0]
    assert found.first.persists  # it is wrong with its value alone marked
    assert changed_layers(found.layers, found.marked_layers)[1] == [EngineLayer("split", ())]


def test_fault_that_every_mark_hides_is_left_to_the_output(tmp_path):
    file, edited, inputs = case(tmp_path, "ops()", "torchscript")
    edit(next(one for one in edited.graph.node if one.op_type == "Softmax"), "axis", 2)
    names = [name for one in file.graph.node for name in one.output]
    look = Fused(EditedFile(file, inputs), EditedFile(edited, inputs), names)
    found = find_first_wrong(file, inputs, look)
    assert len(found.hidden_by) == 3
    assert found.first.name in Graph(file).outputs
    assert not found.first.error.agrees


def test_values_that_the_engine_lacks_or_refuses_are_passed_over(tmp_path):
    file, edited, inputs = case(tmp_path, "ops()", "torchscript")
    by_op = {one.op_type: one for one in edited.graph.node}
    edit(by_op["Resize"], "coordinate_transformation_mode", "asymmetric")
    lacks, refuses = by_op["Resize"].output[0], by_op["LeakyRelu"].output[0]
    look = EditedFile(edited, inputs, lacks=[lacks], refuses=[refuses])
    found = find_first_wrong(file, inputs, look)
    # The next value that the engine gives, and both nodes that make it.
    assert found.graph.nodes[found.graph.makers[found.first.name]].op_type == "Conv"
    assert lacks not in found.first.evidence.inputs
    names = {found.graph.nodes[index].op_type for index in found.first.region.nodes}
    assert "Resize" in names


def test_search_that_needs_too_many_builds_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_search, "_MOST_BUILDS", 1)
    file, edited, inputs = case(tmp_path, "detector()", "torchscript")
    lose(edited, "Clip")
    assert not find_first_wrong(file, inputs, EditedFile(edited, inputs)).is_complete


def test_layers_that_only_one_engine_has():
    both, one, other = (EngineLayer(name, (name,)) for name in "abc")
    before, after = changed_layers([both, one], [other, both, both])
    assert (before, sorted(after)) == ([one], [both, other])
    assert changed_layers(None, [one]) == ([], [])


@pytest.mark.parametrize(
    ("op", "attribute", "value", "detail"),
    [
        ("LeakyRelu", "alpha", 0.2, "alpha of the node is 0.1; TensorRT computes as with 0.2"),
        (
            *("Resize", "coordinate_transformation_mode", "asymmetric"),
            "TensorRT computes as with asymmetric",
        ),
        ("Softmax", "axis", 2, "axis of the node is 1; TensorRT computes as with 2"),
    ],
)
def test_attribute_that_explains_the_value_is_named(tmp_path, op, attribute, value, detail):
    file, edited, inputs = case(tmp_path, "ops()", "torchscript")
    edit(next(one for one in edited.graph.node if one.op_type == op), attribute, value)
    found = find_first_wrong(file, inputs, EditedFile(edited, inputs))
    assert detail in engine_cause(found.first, found.graph).detail


def test_other_weight_has_no_known_cause(tmp_path):
    file, edited, inputs = case(tmp_path, "ops()", "torchscript")
    weight = next(one for one in edited.graph.initializer if "second.weight" in one.name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
    found = find_first_wrong(file, inputs, EditedFile(edited, inputs))
    assert found.first.error.worst is not None
    cause = engine_cause(found.first, found.graph)
    assert cause == ("", "TensorRT computes another value from the same inputs", "")


def test_overflow_of_the_engine_alone_is_named(tmp_path):
    nodes = [helper.make_node("Mul", ["x", "one"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    inputs = {"x": np.full((4,), 1e30, np.float32)}
    look = EditedFile(small(nodes, one=1e30), inputs)
    found = find_first_wrong(small(nodes, one=1.0), inputs, look)
    assert engine_cause(found.first, found.graph).name == "fp16-overflow"


@pytest.mark.parametrize(
    ("is_edited", "verdict"),
    [
        (False, "ONNX Runtime's function body, not with TensorRT's plugin"),
        (True, "TensorRT's plugin, not with ONNX Runtime's function body"),
    ],
)
def test_custom_op_is_compared_with_its_reference(is_edited, verdict):
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 40, (1, 1, 60, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 20], -1)
    scores = generator.uniform(0, 1, (1, 2, 60)).astype(np.float32)
    values = {"iou_threshold": 0.5, "score_threshold": 0.0, "keep_top_k": 40, "box_offset": 0}
    outputs = [(onnx.TensorProto.INT32, 2), (onnx.TensorProto.INT32, 1)]
    file = one_node_model("PaddedNMS", [boxes, scores], outputs, 18, **values)
    other = onnx.ModelProto()
    other.CopyFrom(file)
    body = next(one for one in other.functions if one.name == "PaddedNMS")
    flip = next(one for one in body.node if one.op_type == "Greater")
    flip.op_type = "Less"
    inputs = {"input_0": boxes, "input_1": scores}
    if is_edited:
        file, other = other, file
    found = find_first_wrong(file, inputs, EditedFile(other, inputs))
    assert found.first.name in ("output_0", "output_1")
    assert verdict in engine_cause(found.first, found.graph).detail


def converted(out, monkeypatch, edit_file, **options):
    """Return the report of a conversion in which an edited file takes the engine's place."""
    row = Row("rtx-1.7", "1.7.1.116", "rtx", "torchscript", 17, "13.0", ("89",), ("8.9",))

    class Looker(EditedFile):
        def __init__(self, file, _engine, inputs, *_):
            edited = onnx.load(str(file))
            edit_file(edited)
            super().__init__(edited, inputs)

    def run_engine(conversion, *_):
        look = conversion.engine_looker()
        return {name: look(()).values[name] for name in look.graph.outputs}

    if edit_file is not None:
        monkeypatch.setattr(Conversion, "run_engine", run_engine)
        monkeypatch.setattr(conversion_module, "EngineLooker", Looker)
    request = ConversionRequest(
        model=f"{SOURCE}:ops()",
        input=SHAPE,
        bisect=True,
        **{"between": "torch,tensorrt", **options},
    )
    return convert(row, request, Surroundings("host", out, PLUGINS, None))


def test_report_has_both_searches(tmp_path, monkeypatch):
    def bend(file):
        edit(next(one for one in file.graph.node if one.op_type == "LeakyRelu"), "alpha", 0.9)

    report = converted(tmp_path / "out", monkeypatch, bend)
    assert report.bisection.divergences == ()
    search = report.engine_search
    assert search.found.problem is None
    (one,) = search.found.divergences
    assert (one.op, one.nodes) == ("LeakyRelu", 1)
    assert "models.py:" in one.origin
    assert search.persists
    assert search.layers == (one.node,)
    assert search.builds > 0
    assert not (tmp_path / "out/bisect").exists()
    assert exit_code(report) == 1


def test_agreeing_engine_is_not_searched(tmp_path, monkeypatch):
    report = converted(tmp_path / "out", monkeypatch, lambda _file: None)
    assert report.engine_search.found == Bisection(("onnxruntime", "tensorrt"), 0, ())
    assert exit_code(report) == 0


@pytest.mark.parametrize("between", ["torch,tensorrt", "onnxruntime,tensorrt"])
def test_without_a_device_tensorrt_is_not_compared(tmp_path, monkeypatch, between):
    monkeypatch.setattr("trtyard.core.cuda_device.first_device", lambda: None)
    report = converted(tmp_path / "out", monkeypatch, None, between=between)
    reason = "not run: no CUDA device on this machine"
    assert report.engine_search.found.problem == reason
    assert (report.bisection is None) == (between == "onnxruntime,tensorrt")
    assert exit_code(report) == 0  # as without the search


def test_engine_that_cannot_be_built_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise ConversionError("TensorRT cannot build model.onnx:\nno reason")

    monkeypatch.setattr(Conversion, "build", refuse)
    report = converted(tmp_path / "out", monkeypatch, None)
    problem = "the stage engine failed: TensorRT cannot build model.onnx:"
    assert report.engine_search.found.problem == problem
    assert exit_code(report) == 4


def test_search_that_fails_leaves_the_conversion_as_it_is(tmp_path):
    _file, _edited, inputs = case(tmp_path, "ops()", "torchscript")
    for error in (ConversionError("the engine failed"), MemoryError("none left")):

        def look(_names, error=error):
            raise error

        search = bisect_engine(tmp_path / "model.onnx", inputs, look, False, False, lambda _: None)
        assert str(error) in search.found.problem
        assert search.found.divergences == ()


@pytest.mark.parametrize("has_fault", [True, False])
def test_rounding_that_adds_up_is_no_fault(tmp_path, has_fault):
    model, path = exported(tmp_path, "thirty()", "torchscript", "1x8x8x8")
    inputs = {name: one.numpy() for name, one in zip(model.input_names, model.inputs)}
    file, edited = onnx.load(str(path)), onnx.load(str(path))
    for weight in edited.graph.initializer:
        value = numpy_helper.to_array(weight) * np.float32(1 + 2e-5)
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    node = [one for one in edited.graph.node if one.op_type == "Tanh"][24]
    if has_fault:
        node.op_type = "Sigmoid"
    found = find_first_wrong(file, inputs, EditedFile(edited, inputs))
    assert found.is_gradual is not has_fault
    if has_fault:
        assert found.first.name == node.output[0]
        assert 0 < found.first.inputs_error < found.first.error.relative / 10
    search = bisect_engine(path, inputs, EditedFile(edited, inputs), False, False, lambda _: None)
    assert ("no single node" in search.found.divergences[0].detail) is not has_fault
