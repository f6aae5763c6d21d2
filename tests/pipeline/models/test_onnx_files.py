"""ONNX files as models: what is taken, what is refused, and what is said to be verified."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import UsageError
from trtyard.core.report import exit_code
from trtyard.core.request import ConversionRequest
from trtyard.pipeline import artifacts
from trtyard.pipeline import conversion as conversion_module
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.dynamic.comparison import SizedRuns
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_functions import function
from trtyard.pipeline.onnx_model import given_file
from trtyard.pipeline.row import Row
from trtyard.report.console import console_table
from trtyard.report.junit import junit_text
from trtyard.report.page import page
from trtyard.report.reading import read_report

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(op, inputs, outputs, domain="", **attributes):
    name = f"{op}_{outputs[0]}"
    return helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes)


def write(file, nodes, inputs, outputs, *, opset=18, ir=10, weights=(), domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="test")
    model.ir_version = ir
    onnx.save(model, str(file))
    return file


@pytest.fixture
def net(tmp_path):
    """Return a file with one node."""
    return write(
        tmp_path / "net.onnx",
        [node("Relu", ["x"], ["y"])],
        [value("x", [1, 4])],
        [value("y", [1, 4])],
    )


def dense(file, batch="batch", **how):
    """Write a layer with weights, and an open batch."""
    weight = numpy_helper.from_array(np.arange(800, dtype=np.float32).reshape(4, 200), "w")
    return write(
        file,
        [node("MatMul", ["x", "w"], ["t"]), node("Relu", ["t"], ["y"])],
        [value("x", [batch, 4])],
        [value("y", [batch, 200])],
        weights=[weight],
        **how,
    )


def converted(model, out, **options):
    request = ConversionRequest(model=str(model), until="onnx", **options)
    report = convert(ROW, request, Surroundings("host", out, Path("plugins"), None))
    return report, {stage.name: stage for stage in report.stages}


# What is verified


def test_onnx_file_alone_reports_nothing_compared(net, tmp_path):
    out = tmp_path / "out"
    report, stages = converted(net, out)
    for name in ("torch", "export"):
        assert (stages[name].status, stages[name].reason) == (
            "not-run",
            "the model is an ONNX file",
        )
    assert stages["onnxruntime"].status == "passed"
    assert exit_code(report) == 0
    assert report.parity == ()
    assert (report.exporter, report.opset) == (None, 18)
    shown = read_report(out)
    table = " ".join(console_table(shown).split())
    assert "Nothing was compared, because no other runtime ran." in table
    assert "agree" not in table
    html = page(shown)
    assert "passed, nothing compared, 5 stages not run" in html
    assert "x: float32 [1, 4]" in html
    assert '<skipped message="nothing was compared: only ONNX Runtime ran"' in junit_text(shown)


def test_onnx_runtime_is_the_reference_for_tensorrt(net, tmp_path, monkeypatch):
    """As if this machine had a device: TensorRT's outputs are made up."""
    made_up = {"y": np.zeros((1, 4), np.float32)}
    monkeypatch.setattr(conversion_module.Conversion, "build", lambda _: None)
    monkeypatch.setattr(conversion_module.Conversion, "run_engine", lambda _: made_up)
    request = ConversionRequest(model=str(net))
    where = Surroundings("host", tmp_path / "out", Path("plugins"), None)
    report = convert(ROW, request, where)
    (row,) = report.parity
    assert row.pair == ("onnxruntime", "tensorrt")
    assert not row.passed
    assert exit_code(report) == 1
    alone = report._replace(parity=())
    assert exit_code(alone) == 1  # both ran, and nothing was compared


def test_the_result_is_the_file_and_its_hash_is_in_the_report(net, tmp_path):
    report, _ = converted(net, tmp_path / "out")
    made = onnx.load(str(tmp_path / "out" / artifacts.ONNX))
    assert made.SerializeToString() == onnx.load(str(net)).SerializeToString()
    assert artifacts.ONNX in report.artifacts
    assert report.inputs.weights.source == str(net)
    facts = report.onnx_file
    assert (facts.nodes, facts.opset, facts.ir_version) == (1, 18, 10)
    assert [(one.name, one.dtype, one.shape) for one in facts.inputs] == [
        ("x", "float32", ("1", "4"))
    ]


def test_nan_is_a_failure_and_infinity_is_told(tmp_path):
    x, y = [value("x", [1, 4])], [value("y", [1, 4])]
    nan = write(tmp_path / "nan.onnx", [node("Log", ["x"], ["y"])], x, y)
    report, stages = converted(nan, tmp_path / "nan")
    assert exit_code(report) == 4
    assert "computes NaN in ONNX Runtime: y" in stages["onnxruntime"].reason
    assert "--input FILE.npz" in stages["onnxruntime"].hint
    nodes = [node("Sub", ["x", "x"], ["z"]), node("Reciprocal", ["z"], ["y"])]
    report, stages = converted(write(tmp_path / "inf.onnx", nodes, x, y), tmp_path / "inf")
    assert exit_code(report) == 0
    assert stages["onnxruntime"].note == "gives infinity in y"


# Shapes and inputs


def test_open_dimension_without_a_size_is_refused(tmp_path):
    with pytest.raises(UsageError, match="dimension batch of input x has no size") as caught:
        load_model(str(dense(tmp_path / "net.onnx")))
    assert caught.value.hint == "--input x=1x4"


@pytest.mark.parametrize("text", ["3x4", "x=3x4"])
def test_sizes_that_were_given_are_fixed_in_the_result(text, tmp_path):
    converted(dense(tmp_path / "net.onnx"), tmp_path / "out", input=text)
    graph = onnx.load(str(tmp_path / "out" / artifacts.ONNX)).graph
    for one in (graph.input[0], graph.output[0]):
        assert one.type.tensor_type.shape.dim[0].dim_value == 3


def test_a_shape_that_is_not_declared_is_given_or_inferred(tmp_path):
    """The checker refuses such files, runtimes take them."""
    file = write(
        tmp_path / "net.onnx",
        [node("Relu", ["x"], ["y"])],
        [value("x", None)],
        [value("y", None)],
    )
    with pytest.raises(UsageError, match="does not declare the shape of input x"):
        load_model(str(file))
    _, stages = converted(file, tmp_path / "out", input="x=2x3")
    assert stages["onnxruntime"].status == "passed"
    (output,) = onnx.load(str(tmp_path / "out" / artifacts.ONNX)).graph.output
    assert [one.dim_value for one in output.type.tensor_type.shape.dim] == [2, 3]


def test_a_size_with_a_name_is_the_same_for_every_input(tmp_path):
    inputs = [value("a", ["n", 4]), value("b:0", ["n", 4])]
    file = write(
        tmp_path / "two.onnx", [node("Add", ["a", "b:0"], ["y"])], inputs, [value("y", ["n", 4])]
    )
    model = load_model(str(file), input_shape="b:0=3x4")
    assert [tuple(one.shape) for one in model.inputs] == [(3, 4), (3, 4)]
    with pytest.raises(UsageError, match=r"b:0=2x4: size 1 must be 1 \(dimension n\)"):
        load_model(str(file), input_shape="a=1x4,b:0=2x4")


def test_random_inputs_have_declared_types_and_repeat(tmp_path):
    kinds = {
        "ids": TensorProto.INT64, "mask": TensorProto.BOOL, "x": FLOAT,
        "d": TensorProto.DOUBLE, "small": TensorProto.INT8, "h": TensorProto.FLOAT16,
    }  # fmt: skip
    nodes = [node("Cast", [name], [f"{name}_f"], to=FLOAT) for name in kinds]
    nodes.append(node("Sum", [f"{name}_f" for name in kinds], ["y"]))
    inputs = [value(name, [2, 8], kind) for name, kind in kinds.items()]
    file = write(tmp_path / "types.onnx", nodes, inputs, [value("y", [2, 8])])
    first = load_model(str(file), input_shape="ids=2x8:int64:1000")
    again = load_model(str(file), input_shape="ids=2x8:int64:1000")
    types = ["int64", "bool", "float32", "float64", "int8", "float16"]
    assert [str(one.dtype) for one in first.inputs] == [f"torch.{one}" for one in types]
    assert all(torch.equal(one, other) for one, other in zip(first.inputs, again.inputs))
    assert first.inputs[0].max() > 1
    assert first.notes == ()
    (note,) = load_model(str(file)).notes
    assert note.endswith("give their number: --input ids=2x8:int64:30522")
    report, stages = converted(file, tmp_path / "out")
    assert stages["onnxruntime"].status == "passed"
    assert report.inputs.tensors[0].dtype == "int64"


def test_values_come_from_a_file(net, tmp_path):
    values = np.array([[1, -2, 3, -4]], np.float32)
    np.savez(str(tmp_path / "values.npz"), x=values)
    np.save(str(tmp_path / "values.npy"), values)
    for name in ("values.npz", "values.npy"):
        model = load_model(str(net), input_shape=str(tmp_path / name))
        np.testing.assert_array_equal(model.inputs[0].numpy(), values)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.ones((1, 4), np.float32)}, "no values for input x; it has z"),
        ({"x": np.ones((1, 4))}, "x is float64 there; the model has x: float32"),
        ({"x": np.ones(4, np.float32)}, r"x, of shape \[4\], has 1 dimension"),
        ({"x": np.ones((1, 5), np.float32)}, "size 2 must be 4"),
        ({"x": np.full((1, 4), np.nan, np.float32)}, "x holds NaN or infinity"),
        ({"x": np.array([{}], dtype=object)}, "holds Python objects"),
    ],
)
def test_values_that_do_not_fit_are_refused(arrays, words, net, tmp_path):
    np.savez(str(tmp_path / "values.npz"), **arrays)
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(net), input_shape=str(tmp_path / "values.npz"))
    assert caught.value.hint


def test_a_file_of_values_that_cannot_be_read_is_refused(net, tmp_path):
    (tmp_path / "values.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"not a \.npz or \.npy file"):
        load_model(str(net), input_shape=str(tmp_path / "values.npz"))
    with pytest.raises(UsageError, match="file not found"):
        load_model(str(net), input_shape=str(tmp_path / "none.npy"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("z=1x4", "has no input 'z', but: x: float32"),
        ("x=4", "x=4 has 1 dimension; the model has x"),
        ("x=1x5", "size 2 must be 4"),
        ("x=1x4:int64", "input x is float32 in the file, not int64"),
        ("x=1x4,x=1x4", "input x is given twice"),
        ("1x4,1x4", "has 2 shapes; .* has 1 input: x"),
        ("x=1x4,1x4", "some inputs have names and some do not"),
        ("x=1xA", "is not a shape"),
        ("x=1..2x4", "size 1 must be 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(text, words, net):
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(net), input_shape=text)
    assert caught.value.hint


def test_a_picture_is_for_one_input_of_pictures(net, tmp_path):
    file = write(
        tmp_path / "picture.onnx",
        [node("GlobalAveragePool", ["x"], ["y"])],
        [value("x", ["n", 3, "h", "w"])],
        [value("y", ["n", 3, 1, 1])],
    )
    picture = tmp_path / "picture.png"
    from PIL import Image

    Image.fromarray(np.full((40, 60, 3), 255, np.uint8)).save(picture)
    model = load_model(str(file), image=picture, input_shape="x=2x3x32x48")
    assert tuple(model.inputs[0].shape) == (2, 3, 32, 48)
    assert model.inputs[0][0, 0, 0, 0] == pytest.approx((1 - 0.485) / 0.229)
    assert "normalized as for ImageNet" in model.notes[0]
    with pytest.raises(UsageError, match="--image is not for"):
        load_model(str(net), image=picture)


def test_older_files_list_their_weights_as_inputs(tmp_path):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    file = write(
        tmp_path / "old.onnx",
        [node("Gemm", ["x", "w", "w2"], ["y"])],
        [value("x", [1, 4]), value("w", [4, 4]), value("w2", [4])],
        [value("y", [1, 4])],
        weights=[weight, numpy_helper.from_array(np.ones(4, np.float32), "w2")],
        opset=9,
        ir=3,
    )
    report, stages = converted(file, tmp_path / "out")
    assert [one.name for one in report.inputs.tensors] == ["x"]
    assert stages["onnxruntime"].status == "passed"


# External data


@pytest.fixture
def outside(tmp_path):
    """Return a file whose weights are in another file."""
    file = dense(tmp_path / "net.onnx", batch=1)
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin")
    assert (tmp_path / "weights.bin").is_file()
    return file


def test_external_data_is_written_to_one_file_beside_the_result(outside, tmp_path):
    out = tmp_path / "out"
    report, _ = converted(outside, out)
    assert {artifacts.ONNX, artifacts.ONNX_DATA} == set(report.artifacts)
    ones = np.ones((1, 4), np.float32)
    for file in (outside, out / artifacts.ONNX):
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": ones})
        np.testing.assert_array_equal(found, ones @ np.arange(800.0).reshape(4, 200))


def test_external_data_may_be_linked_from_a_cache(outside, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("net.onnx", "weights.bin"):
        (snapshot / name).symlink_to(tmp_path / name)
    _, stages = converted(snapshot / "net.onnx", tmp_path / "out")
    assert stages["onnxruntime"].status == "passed"


def test_missing_or_short_external_data_is_named(outside, tmp_path):
    data = tmp_path / "weights.bin"
    with data.open("r+b") as stream:
        stream.truncate(10)
    with pytest.raises(UsageError, match=r"weights\.bin is too short: 10 bytes"):
        load_model(str(outside))
    data.unlink()
    with pytest.raises(UsageError, match=r"data file weights\.bin is missing"):
        load_model(str(outside))


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "a/../../secret"])
def test_external_data_that_leaves_the_folder_is_refused(location, outside, tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path.parent / "secret").write_bytes(bytes(5000))
    model = onnx.load(str(outside), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    outside.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="leaves the model's folder"):
        load_model(str(outside))


# Bad files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"some text", "not an ONNX file"),
        (b"PK\x03\x04" + bytes(50), "a zip archive"),
        (b"<html>404</html>", "a page of a website"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a placeholder of Git LFS"),
        (b"\x08\x0a", "the file has no nodes"),
    ],
)
def test_other_files_are_told_from_onnx(content, words, tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(file))
    assert caught.value.hint
    with pytest.raises(UsageError, match=f"^--onnx {file}: .*{words}"):
        given_file.read_given(str(file), "--onnx")


def test_a_file_that_was_cut_short_says_so(tmp_path):
    file = dense(tmp_path / "net.onnx")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="truncated or damaged"):
        load_model(str(file))


def test_a_file_that_is_too_large_for_protobuf_says_what_to_do(tmp_path):
    file = tmp_path / "net.onnx"
    with file.open("wb") as stream:
        stream.truncate(2**31)  # takes no room on the disk
    with pytest.raises(UsageError, match=r"2\.0 GiB; protobuf reads 2 GiB at most") as caught:
        load_model(str(file))
    assert "save_as_external_data=True" in caught.value.hint


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"opset": 999}, f"opset 999, and onnx {onnx.__version__} of this row knows up to"),
        ({"ir": 99}, f"IR version 99, and onnx .* knows up to {onnx.IR_VERSION}"),
        ({"opset": 0}, "the file has no opset"),
    ],
)
def test_versions_that_onnx_does_not_know_are_named_with_its_own(versions, words, tmp_path):
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(dense(tmp_path / "net.onnx", **versions)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (lambda ir, opset: ir <= 8, "IR version 10, and ONNX Runtime .* knows up to 8"),
        (lambda ir, opset: opset <= 15, "opset 18, and ONNX Runtime .* knows up to 15"),
    ],
)
def test_versions_that_onnx_runtime_does_not_know_are_named(takes, words, net, monkeypatch):
    monkeypatch.setattr(given_file, "_runs", takes)
    with pytest.raises(UsageError, match=words):
        load_model(str(net))


def test_invalid_graph_is_refused_with_the_checkers_error(tmp_path):
    file = write(
        tmp_path / "net.onnx",
        [node("Relu", ["nothing"], ["y"])],
        [value("x", [1])],
        [value("y", [1])],
    )
    with pytest.raises(UsageError, match=r"net\.onnx is not valid ONNX: .*'nothing'"):
        converted(file, tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()


def test_nodes_out_of_order_are_sorted(tmp_path):
    """ONNX Runtime's own conversion to float16 adds its casts at the end."""
    file = write(
        tmp_path / "net.onnx",
        [node("Relu", ["t"], ["y"]), node("Neg", ["x"], ["t"])],
        [value("x", [1])],
        [value("y", [1])],
    )
    report, stages = converted(file, tmp_path / "out")
    assert stages["onnxruntime"].status == "passed"
    made = onnx.load(str(tmp_path / "out" / artifacts.ONNX)).graph
    assert [one.op_type for one in made.node] == ["Neg", "Relu"]
    assert "not in topological order" in report.notes[0]


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16])
def test_types_that_no_runtime_shares_are_refused(kind, tmp_path):
    file = write(
        tmp_path / "net.onnx",
        [node("Identity", ["x"], ["y"])],
        [value("x", [1], kind)],
        [value("y", [1], kind)],
    )
    with pytest.raises(UsageError, match=r"output y has type (string|bfloat16)"):
        load_model(str(file))


@pytest.mark.parametrize(
    "options",
    [{"weights": "seeded:3"}, {"opset": 17}, {"size": 64}, {"top_n": 5}, {"norm_eps": 0.0}],
)
def test_options_of_other_models_are_refused(options, net, tmp_path):
    with pytest.raises(UsageError, match=r"is not for .*net\.onnx"):
        converted(net, tmp_path / "out", **options)


def test_a_result_is_not_replaced_by_what_is_made_of_it(net, tmp_path):
    converted(net, tmp_path / "out")
    with pytest.raises(UsageError, match="is in the output folder"):
        converted(tmp_path / "out" / artifacts.ONNX, tmp_path / "out")


# Custom ops

NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 5, "box_offset": 0}


def with_nms(file, **how):
    """Write a file with one of trtyard's ops, without its function."""
    return write(
        file,
        [
            node("Identity", ["boxes"], ["b"]),
            node("PaddedNMS", ["b", "scores"], ["indices", "count"], "trtyard", **NMS),
            node("Add", ["count", "one"], ["t"]),
            node("Identity", ["t"], ["more"]),
        ],
        [value("boxes", [1, 1, 8, 4]), value("scores", [1, 1, 8])],
        [value("indices", [1, 5], TensorProto.INT32), value("more", [1], TensorProto.INT32)],
        weights=[numpy_helper.from_array(np.ones(1, np.int32), "one")],
        domains=["trtyard"],
        **how,
    )


def test_trtyards_ops_get_their_functions(tmp_path):
    report, stages = converted(with_nms(tmp_path / "nms.onnx", ir=7), tmp_path / "out")
    assert stages["onnxruntime"].status == "passed"
    made = onnx.load(str(tmp_path / "out" / artifacts.ONNX))
    assert [one.name for one in made.functions] == ["PaddedNMS"]
    assert made.functions[0] == function("PaddedNMS", 18)
    assert made.ir_version == 8
    assert [one.name for one in report.onnx_file.outputs] == ["indices", "more"]


def test_opset_without_functions_runs_as_a_twin(tmp_path):
    _, stages = converted(with_nms(tmp_path / "11.onnx", opset=11, ir=7), tmp_path / "11")
    assert stages["onnxruntime"].status == "passed"
    assert "in standard ops" in stages["onnxruntime"].note
    _, stages = converted(with_nms(tmp_path / "14.onnx", opset=14, ir=7), tmp_path / "14")
    assert stages["onnxruntime"].status == "failed"
    assert stages["onnxruntime"].hint == "export the file again at opset 16 or newer"


def test_other_custom_ops_are_named_with_node_and_domain(tmp_path):
    file = write(
        tmp_path / "net.onnx",
        [
            node("Foo", ["x"], ["a"], "mmdeploy"),
            node("EfficientNMS_TRT", ["a"], ["b"]),
            node("Nope", ["b"], ["y"], "trtyard"),
        ],
        [value("x", [1])],
        [value("y", [1])],
        domains=["mmdeploy", "trtyard"],
    )
    report, stages = converted(file, tmp_path / "out")
    assert exit_code(report) == 4
    reason = stages["onnxruntime"].reason
    assert "op: Foo (node Foo_a), domain mmdeploy" in reason
    assert "op: EfficientNMS_TRT (node EfficientNMS_TRT_b), domain ai.onnx" in reason
    assert "op: Nope (node Nope_y), domain trtyard" in reason
    assert "model.functions" in stages["onnxruntime"].hint


# --simplify


def foldable(file):
    """Write a file with constants to fold and nodes that do nothing."""
    two, three = (numpy_helper.from_array(np.full(400, n, np.float32), f"c{n}") for n in (2, 3))
    return write(
        file,
        [
            node("Add", ["c2", "c3"], ["five"]),
            node("Identity", ["x"], ["same"]),
            node("Mul", ["same", "five"], ["y"]),
            node("Relu", ["x"], ["unused"]),
        ],
        [value("x", [2, 400])],
        [value("y", [2, 400])],
        weights=[two, three],
    )


def test_simplify_folds_and_compares_both_files(tmp_path):
    out = tmp_path / "out"
    report, _ = converted(foldable(tmp_path / "net.onnx"), out, simplify=True)
    assert [stage.name for stage in report.stages][:4] == [
        *("torch", "export", "simplify", "onnxruntime")
    ]
    assert (report.simplified.before, report.simplified.after) == (4, 1)
    (row,) = report.parity
    assert row.pair == ("unsimplified", "onnxruntime")
    assert row.passed
    made = onnx.load(str(out / artifacts.ONNX))
    assert [one.op_type for one in made.graph.node] == ["Mul"]
    assert [one.domain for one in made.opset_import] == [""]
    assert "--simplify" in report.command
    assert json.loads((out / "request.json").read_text())["simplify"] is True
    shown = read_report(out)
    assert "4 nodes before, 1 after" in console_table(shown)
    assert "4 nodes before, 1 after" in page(shown)
    text = " ".join(console_table(shown).split())
    assert "ONNX Runtime before --simplify and ONNX Runtime agree" in text


def test_simplify_keeps_external_data(tmp_path):
    file = foldable(tmp_path / "net.onnx")
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin")
    out = tmp_path / "out"
    report, _ = converted(file, out, simplify=True)
    assert report.parity[0].passed
    assert {artifacts.ONNX, artifacts.ONNX_DATA} == set(report.artifacts)
    assert {one.name for one in out.iterdir()} == {
        *(artifacts.ONNX, artifacts.ONNX_DATA, "report.json", "request.json")
    }


def test_simplify_keeps_the_nodes_of_plugins(tmp_path):
    out = tmp_path / "out"
    report, stages = converted(with_nms(tmp_path / "net.onnx"), out, simplify=True)
    assert stages["onnxruntime"].status == "passed", stages["simplify"]
    made = onnx.load(str(out / artifacts.ONNX))
    onnx.checker.check_model(made, full_check=True)
    assert [one.op_type for one in made.graph.node] == ["Identity", "PaddedNMS", "Add"]
    assert [one.name for one in made.functions] == ["PaddedNMS"]
    assert all(row.passed for row in report.parity)


def test_simplify_takes_the_types_of_plugins_from_their_contract(tmp_path):
    """Once the ops have schemas, as an export with dynamo needs them, onnx infers no types."""
    from trtyard.pipeline.export.schemas import register_schemas

    register_schemas()
    pooled = {
        "output_height": 2, "output_width": 2, "spatial_scale": 1.0, "sampling_ratio": 2,
        "aligned": 0,
    }  # fmt: skip
    file = write(
        tmp_path / "net.onnx",
        [
            node("Relu", ["features"], ["f"]),
            node("MaskRcnnROIAlign", ["f", "rois", "batch"], ["p"], "trtyard", **pooled),
            node("Relu", ["p"], ["y"]),
        ],
        [value("features", [1, 4, 8, 8]), value("rois", [1, 4]), value("batch", [1], INT32)],
        [value("y", [1, 4, 2, 2])],
        domains=["trtyard"],
    )
    _, stages = converted(file, tmp_path / "out", simplify=True)
    assert stages["onnxruntime"].status == "passed", stages["simplify"]


def test_simplify_leaves_a_batched_layer_as_it_is(tmp_path):
    """ONNX Runtime's own form, Reshape, Gemm and Reshape, is no simpler for TensorRT."""
    weights = [
        numpy_helper.from_array(np.ones((4, 4), np.float32), "w"),
        numpy_helper.from_array(np.ones(4, np.float32), "b"),
    ]
    file = write(
        tmp_path / "net.onnx",
        [node("MatMul", ["x", "w"], ["t"]), node("Add", ["t", "b"], ["y"])],
        [value("x", [2, 3, 4])],
        [value("y", [2, 3, 4])],
        weights=weights,
    )
    converted(file, tmp_path / "out", simplify=True)
    made = onnx.load(str(tmp_path / "out" / artifacts.ONNX))
    assert [one.op_type for one in made.graph.node] == ["MatMul", "Add"]


def test_simplify_refuses_float16(tmp_path):
    half = TensorProto.FLOAT16
    file = write(
        tmp_path / "net.onnx",
        [node("Relu", ["x"], ["y"])],
        [value("x", [4], half)],
        [value("y", [4], half)],
    )
    report, stages = converted(file, tmp_path / "out", simplify=True)
    assert exit_code(report) == 4
    assert "--simplify is not for float16" in stages["simplify"].reason
    assert stages["onnxruntime"].reason == "needs the stage simplify, which did not pass"


def test_simplify_keeps_the_lines_that_nodes_come_from(tmp_path):
    file = dense(tmp_path / "net.onnx", batch=1)
    model = onnx.load(str(file))
    model.graph.node[0].doc_string = "net.py(14): forward"
    onnx.save(model, str(file))
    converted(file, tmp_path / "out", simplify=True)
    made = onnx.load(str(tmp_path / "out" / artifacts.ONNX))
    assert made.graph.node[0].doc_string == "net.py(14): forward"


def test_simplify_works_for_models_of_pytorch(tmp_path):
    (tmp_path / "nets_simplify.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Linear(4, 4)\n"
    )
    model = f"{tmp_path}/nets_simplify.py:net"
    report, stages = converted(model, tmp_path / "out", input="1x4", simplify=True)
    assert stages["onnxruntime"].status == "passed"
    assert [row.pair for row in report.parity] == [
        ("torch", "onnxruntime"),
        ("unsimplified", "onnxruntime"),
    ]


# TensorRT


def test_tensorrt_reads_external_data_and_quantized_files(tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings")
    from trtyard.pipeline.tensorrt.engine import build_engine

    scale = numpy_helper.from_array(np.float32(0.1), "s")
    zero = numpy_helper.from_array(np.int8(0), "z")
    weight = numpy_helper.from_array(np.ones((64, 64), np.int8), "w")
    file = write(
        tmp_path / "int8.onnx",
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "s", "z"], ["e"]),
            node("MatMul", ["d", "e"], ["y"]),
        ],
        [value("x", [2, 64])],
        [value("y", [2, 64])],
        weights=[scale, zero, weight],
    )
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="w.bin", size_threshold=100)
    out = tmp_path / "out"
    report, _ = converted(file, out)
    assert report.precision == "fp32 and int8"
    assert (out / artifacts.ONNX_DATA).is_file()
    facts = build_engine(out / artifacts.ONNX, out / artifacts.ENGINE)
    assert facts.bytes == (out / artifacts.ENGINE).stat().st_size


def test_simplified_quantized_file_builds(tmp_path):
    """Weights are folded to int8. Their bias stays float32: TensorRT takes no int32 there."""
    pytest.importorskip("tensorrt_rtx_bindings")
    from trtyard.pipeline.tensorrt.engine import build_engine

    weights = {
        "s": np.float32(0.1), "z": np.int8(0), "w": np.ones((64, 64), np.float32),
        "b": np.ones(64, np.float32),
    }  # fmt: skip
    file = write(
        tmp_path / "int8.onnx",
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("QuantizeLinear", ["w", "s", "z"], ["v"]),
            node("DequantizeLinear", ["v", "s", "z"], ["e"]),
            node("Gemm", ["d", "e", "b"], ["g"]),
            node("QuantizeLinear", ["g", "s", "z"], ["h"]),
            node("DequantizeLinear", ["h", "s", "z"], ["y"]),
        ],
        [value("x", [2, 64])],
        [value("y", [2, 64])],
        weights=[numpy_helper.from_array(np.asarray(each), name) for name, each in weights.items()],
    )
    report, _ = converted(file, tmp_path / "out", simplify=True)
    assert (report.simplified.before, report.simplified.after) == (7, 6)
    assert report.parity[0].passed
    build_engine(tmp_path / "out" / artifacts.ONNX, tmp_path / "out" / artifacts.ENGINE)


@pytest.fixture
def open_net(tmp_path):
    """Return a file whose batch and length are open; its inputs share the dimension batch."""
    return write(
        tmp_path / "open.onnx",
        [
            node("Mul", ["x.1", "y"], ["product"]),
            node("ReduceMean", ["product"], ["z"], keepdims=0),
        ],
        [value("x.1", ["batch", "length"]), value("y", ["batch", "length"])],
        [value("z", [])],
    )


@pytest.mark.parametrize(
    "text",
    [
        "x.1=1..8x4..16,y=1..8x4..16",
        "x.1=[n=1..8]x[s=4..16],y=[n]x[s]",
        "1..8x4..16,1..8x4..16",
        "x.1=1..8x4..16",
        "y=[n=1..8]x4..16",
    ],
)
def test_ranges_get_the_names_of_the_file(text, open_net):
    model = load_model(str(open_net), input_shape=text)
    assert model.dynamic.axes == ({0: "batch", 1: "length"},) * 2
    assert model.dynamic.profiles == ({"batch": (1, 4, 8), "length": (4, 8, 16)},)
    assert [tuple(one.shape) for one in model.inputs] == [(4, 8), (4, 8)]
    drawn = model.dynamic.draw({"batch": 3, "length": 5}, 1)
    assert [tuple(one.shape) for one in drawn] == [(3, 5), (3, 5)]


def test_profiles_of_a_file(open_net):
    model = load_model(str(open_net), input_shape="x.1=1..2x4,y=1..2x4;x.1=4..8x4,y=4..8x4")
    assert [one["batch"].least for one in model.dynamic.profiles] == [1, 4]
    assert [one["batch"].most for one in model.dynamic.profiles] == [2, 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x.1=1..8x4,y=1..4x4", "batch of the file has two ranges"),
        ("x.1=1..8x4,y=2x4", "size 1 must be batch"),
        ("x.1=1..8x4;y=1..8x4", "different inputs"),
        ("x.1=8..1x4", "min 8 > max 1"),
    ],
)
def test_wrong_ranges_of_a_file_are_refused(text, words, open_net):
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(open_net), input_shape=text)
    assert caught.value.hint


def test_a_file_with_ranges_is_converted_with_them(open_net, tmp_path):
    request = ConversionRequest(model=str(open_net), input="x.1=1..8x4..16", until="onnx")
    report = convert(ROW, request, Surroundings("host", tmp_path / "out", Path("plugins"), None))
    assert exit_code(report) == 0
    assert [one.name for one in report.dimensions] == ["batch", "length"]
    stage = {one.name: one for one in report.stages}["onnxruntime"]
    assert stage.note.startswith("ran at batch 4, length 8; batch 1, length 4; ")
    written = onnx.load(str(tmp_path / "out" / "model.onnx"))
    shape = written.graph.input[0].type.tensor_type.shape
    assert [one.dim_param for one in shape.dim] == ["batch", "length"]


def test_a_file_that_fails_at_a_size_is_refused_with_it(tmp_path):
    file = write(
        tmp_path / "frozen.onnx",
        [node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", [2, 4])],
        weights=[numpy_helper.from_array(np.array([2, 4]), "shape")],
    )
    request = ConversionRequest(model=str(file), input="x=1:2:4x4", until="onnx")
    report = convert(ROW, request, Surroundings("host", tmp_path / "out", Path("plugins"), None))
    assert exit_code(report) == 4
    stage = {one.name: one for one in report.stages}["onnxruntime"]
    assert stage.reason.startswith("at n 1: ")


def test_file_in_reduced_precision_is_compared_with_the_file(tmp_path):
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(8, 5)).astype(np.float32), "v"),
    ]
    file = write(
        tmp_path / "small.onnx",
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("ReduceMean", ["b", "axes"], ["c"], keepdims=0),
            node("MatMul", ["c", "v"], ["y"]),
        ],
        [value("x", ["n", 3, 16, 16])],
        [value("y", ["n", 5])],
        weights=[*weights, numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(16, 3, 16, 16)).astype(np.float32))
    request = ConversionRequest(
        model=str(file),
        input="x=1..4x3x16x16",
        precision="fp32,fp16,int8",
        calibrate=str(tmp_path / "data.npz"),
        until="onnx",
    )
    report = convert(ROW, request, Surroundings("host", tmp_path / "out", Path("plugins"), None))
    assert [each.name for each in report.precisions] == ["fp32", "fp16", "int8"]
    for each in report.precisions[1:]:
        assert {stage.name: stage.status for stage in each.stages}["onnxruntime"] == "passed"
        assert all(0 < one.relative_error < one.largest_error for one in each.values)
    assert exit_code(report) == 0


def test_half_precision_file_is_refused_for_another_precision(tmp_path):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16), "w")
    file = write(
        tmp_path / "half.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", [1, 4], TensorProto.FLOAT16)],
        [value("y", [1, 4], TensorProto.FLOAT16)],
        weights=[weight],
    )
    request = ConversionRequest(model=str(file), precision="bf16")
    with pytest.raises(UsageError, match="has fp16 weights"):
        convert(ROW, request, Surroundings("host", tmp_path / "out", Path("plugins"), None))


def test_onnx_runtime_is_the_reference_at_every_size(open_net, tmp_path):
    model = load_model(str(open_net), input_shape="x.1=1..8x4..16")
    runs = SizedRuns(model)
    runs.compute_references(lambda _: {"z": np.float32(1)}, {"z": np.float32(1)})
    runs.compare("tensorrt", lambda _: {"z": np.float32(2)}, has_float16=False)
    assert {each.pair for each in runs.parities} == {("onnxruntime", "tensorrt")}
    assert [each.passed for each in runs.parities] == [False] * 5
