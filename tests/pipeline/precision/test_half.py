"""fp16: types, what stays in fp32, and what the converter would do silently."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_nets import conv_net, error, initializer, model_of, pictures, run, types_of

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_functions import functions_for
from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.precision.bfloat16 import to_bfloat16, twin_of
from trtyard.pipeline.precision.half import to_half
from trtyard.pipeline.precision.kept import ASKED_FOR, kept_nodes
from trtyard.pipeline.tensorrt.engine import build_engine

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def test_weights_are_float16_inputs_and_outputs_are_not(tmp_path):
    model = conv_net()
    half = to_half(model, kept_nodes(model.graph, False)).model
    onnx.checker.check_model(half, full_check=True)
    types = types_of(half)
    assert types["conv"] == [HALF] * 3
    assert types["softmax"] == [FLOAT]
    ends = [*half.graph.input, *half.graph.output]
    assert {each.type.tensor_type.elem_type for each in ends} == {FLOAT}
    (inputs,) = pictures(1)
    (whole,), (reduced,) = run(model, inputs, tmp_path), run(half, inputs, tmp_path)
    assert 0 < error(whole, reduced) < 2e-3
    assert half.ByteSize() < model.ByteSize()


def test_fp32_nodes_hand_on_fp32(tmp_path):
    """Numbers above 2048 are not exact in float16: a cast between the two would show."""
    model = model_of(
        [
            helper.make_node("Add", ["x", "one"], ["a"], "first"),
            helper.make_node("Sub", ["a", "one"], ["b"], "second"),
            helper.make_node("Relu", ["b"], ["y"], "third"),
        ],
        [("x", FLOAT, [3])],
        [("y", FLOAT, [3])],
        [initializer("one", np.ones(1, np.float32))],
    )
    kept = dict.fromkeys(["first", "second", "third"], "test")
    half = to_half(model, kept).model
    onnx.checker.check_model(half, full_check=True)
    assert "Cast" not in {node.op_type for node in half.graph.node}
    given = {"x": np.array([2049.3, 80001.7, 3.3], np.float32)}
    (value,) = run(half, given, tmp_path)
    np.testing.assert_allclose(value, given["x"], rtol=1e-6)
    # In part: what is between two kept nodes stays exact, although others are reduced.
    half = to_half(model, {"first": "test", "second": "test"}).model
    assert types_of(half)["second"] == [FLOAT, FLOAT]


def test_shared_weight_stays_fp32_for_fp32_nodes():
    model = model_of(
        [
            helper.make_node("Mul", ["x", "w"], ["a"], "reduced"),
            helper.make_node("Mul", ["a", "w"], ["y"], "kept"),
        ],
        [("x", FLOAT, [1])],
        [("y", FLOAT, [1])],
        [initializer("w", np.array([1.2345678], np.float32))],
    )
    half = to_half(model, {"kept": "test"}).model
    assert types_of(half)["kept"] == [FLOAT, FLOAT]
    values = {one.name: onnx.numpy_helper.to_array(one) for one in half.graph.initializer}
    assert values["w_fp32"] == np.float32(1.2345678)
    assert values["w"].dtype == np.float16


def test_weights_with_a_type_note_are_not_cast_for_fp32_nodes():
    """Exporters that infer shapes also note the types of the weights."""
    model = model_of(
        [helper.make_node("Mul", ["x", "w"], ["y"], "kept")],
        [("x", FLOAT, [1])],
        [("y", FLOAT, [1])],
        [initializer("w", np.ones(1, np.float32))],
    )
    model.graph.value_info.append(helper.make_tensor_value_info("w", FLOAT, [1]))
    half = to_half(model, {"kept": "test"}).model
    assert "Cast" not in {node.op_type for node in half.graph.node}


def test_clamped_weights_are_told():
    model = conv_net(scale=1e6)
    (note,) = to_half(model, {}).notes
    assert "clamped to float16's range in w" in note
    assert to_half(model, {"conv": "test"}).notes == []


def test_a_loop_is_refused_by_name():
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "body",
        [],
        [helper.make_tensor_value_info("z", FLOAT, [1])],
    )
    model = model_of(
        [helper.make_node("If", ["c"], ["y"], "choice", then_branch=body, else_branch=body)],
        [("x", FLOAT, [1]), ("c", TensorProto.BOOL, [])],
        [("y", FLOAT, [1])],
    )
    with pytest.raises(ConversionError, match="If is not supported"):
        to_half(model, {})


def with_nms():
    """Return a Conv whose result is scored by PaddedNMS, with the op's function."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Reshape", ["c", "boxes_shape"], ["boxes"], "boxes"),
        helper.make_node("Reshape", ["s", "scores_shape"], ["scores"], "scores"),
        helper.make_node(
            "PaddedNMS",
            ["boxes", "scores"],
            ["kept", "count"],
            "nms",
            domain=DOMAIN,
            iou_threshold=0.5,
            score_threshold=0.0,
            keep_top_k=4,
            box_offset=0,
        ),
    ]
    weights = [
        initializer("w", np.random.RandomState(0).rand(4, 4, 1, 1).astype("f")),
        initializer("boxes_shape", np.array([1, 1, 8, 4])),
        initializer("scores_shape", np.array([1, 1, 8])),
    ]
    inputs = [("x", FLOAT, [1, 4, 4, 2]), ("s", FLOAT, [8])]
    outputs = [("kept", TensorProto.INT32, [1, 4]), ("count", TensorProto.INT32, [1])]
    model = model_of(nodes, inputs, outputs, weights, domains=[DOMAIN])
    model.functions.extend(functions_for(model))
    return model


def test_functions_stay_and_their_inputs_are_fp32(tmp_path):
    model = with_nms()
    kept = kept_nodes(model.graph, False)
    for reduced in (to_half(model, kept).model, to_bfloat16(model, kept).model):
        onnx.checker.check_model(reduced, full_check=True)
        assert [each.name for each in reduced.functions] == ["PaddedNMS"]
        assert types_of(reduced)["nms"] == [FLOAT, FLOAT]
        file = tmp_path / "model.onnx"
        onnx.save(reduced, str(file))
        facts = build_engine(file, tmp_path / "model.engine", precision="fp16")
        assert facts.plugin_layers == ("PaddedNMS",)


def with_pooling(is_output=False):
    """Return Conv, MaskRcnnROIAlign and Conv, with the op's function."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["maps"], "before"),
        helper.make_node(
            "MaskRcnnROIAlign",
            ["maps", "rois", "images"],
            ["pooled"],
            "pool",
            domain=DOMAIN,
            output_height=2,
            output_width=2,
            spatial_scale=0.25,
            sampling_ratio=2,
            aligned=0,
        ),
        helper.make_node("Conv", ["pooled", "w"], ["y"], "after"),
    ]
    weights = [initializer("w", np.random.RandomState(0).rand(4, 4, 1, 1).astype("f"))]
    inputs = [
        ("x", FLOAT, [1, 4, 9, 9]),
        ("rois", FLOAT, [3, 4]),
        ("images", TensorProto.INT32, [3]),
    ]
    outputs, pooled = [("y", FLOAT, [3, 4, 2, 2])], ("pooled", FLOAT, [3, 4, 2, 2])
    if is_output:
        outputs.append(pooled)
    model = model_of(nodes, inputs, outputs, weights, domains=[DOMAIN])
    if not is_output:  # onnx does not infer it if the op's schema is registered
        model.graph.value_info.append(helper.make_tensor_value_info(*pooled))
    model.functions.extend(functions_for(model))
    return model


def test_pooling_takes_half_maps_and_fp32_rois(tmp_path):
    model = with_pooling()
    kept = kept_nodes(model.graph, False)
    for reduced, narrow in (
        (to_half(model, kept).model, HALF),
        (to_bfloat16(model, kept).model, BFLOAT),
    ):
        onnx.checker.check_model(reduced, full_check=True)
        pool = next(node for node in reduced.graph.node if node.name == "pool")
        assert types_of(reduced)["pool"][:2] == [narrow, FLOAT]
        read = {name for node in reduced.graph.node for name in node.input}
        assert pool.output[0] in read
        casts = [node for node in reduced.graph.node if node.op_type == "Cast"]
        assert not any({*cast.input, *cast.output} & {*pool.input, *pool.output} for cast in casts)
        file = tmp_path / "model.onnx"
        onnx.save(reduced, str(file))
        precision = "fp16" if narrow == HALF else "bf16"
        facts = build_engine(file, tmp_path / "model.engine", precision=precision)
        assert facts.plugin_layers == ("MaskRcnnROIAlign",)
    random = np.random.RandomState(1)
    corner = random.uniform(0, 20, (3, 2))
    given = {
        "x": random.rand(1, 4, 9, 9).astype("f"),
        "rois": np.concatenate([corner, corner + 9], 1).astype("f"),
        "images": np.array([0, -1, 0], np.int32),
    }
    (whole,) = run(model, given, tmp_path)
    (value,) = run(to_half(model, kept).model, given, tmp_path)
    assert 0 < error(whole, value) < 2e-3
    assert not value[1].any()


def test_pooling_stays_fp32_for_an_fp32_reader(tmp_path):
    model = with_pooling(is_output=True)
    half = to_half(model, kept_nodes(model.graph, False)).model
    onnx.checker.check_model(half, full_check=True)
    assert types_of(half)["pool"][:2] == [FLOAT, FLOAT]


@pytest.mark.parametrize("reduce", [to_half, to_bfloat16])
def test_pooling_that_is_asked_for_in_fp32_stays_so(reduce):
    model = with_pooling()
    kept = {**kept_nodes(model.graph, False), "pool": ASKED_FOR}
    reduced = reduce(model, kept).model
    onnx.checker.check_model(reduced, full_check=True)
    assert types_of(reduced)["pool"][:2] == [FLOAT, FLOAT]


def test_bfloat16_has_casts_behind_float32_weights(tmp_path):
    model = conv_net()
    kept = kept_nodes(model.graph, False)
    rounded = to_bfloat16(model, kept).model
    onnx.checker.check_model(rounded, full_check=True)
    types = types_of(rounded)
    assert types["conv"] == [BFLOAT] * 3
    assert types["softmax"] == [FLOAT]
    assert {each.data_type for each in rounded.graph.initializer} == {FLOAT}
    (inputs,) = pictures(1)
    (whole,) = run(model, inputs, tmp_path)
    (value,) = run(twin_of(model, kept), inputs, tmp_path, is_fused=False)
    assert 1e-4 < error(whole, value) < 2e-2


def test_the_twin_of_bfloat16_rounds_every_tensor_but_kept_ones(tmp_path):
    model = model_of(
        [
            helper.make_node("Add", ["x", "zero"], ["a"], "reduced"),
            helper.make_node("Add", ["x", "zero"], ["b"], "kept"),
        ],
        [("x", FLOAT, [1])],
        [("a", FLOAT, [1]), ("b", FLOAT, [1])],
        [initializer("zero", np.zeros(1, np.float32))],
    )
    given = {"x": np.array([1 + 2**-9], np.float32)}
    reduced, kept = run(twin_of(model, {"kept": "test"}), given, tmp_path, is_fused=False)
    assert reduced == 1.0
    assert kept == given["x"]


def test_the_twin_of_bfloat16_rounds_where_the_file_casts(tmp_path):
    """A result in fp32 is rounded for reduced nodes, and so is a reduced output."""
    two = [initializer("small", np.array([2**-9], np.float32)), initializer("one", np.ones(1, "f"))]
    model = model_of(
        [
            helper.make_node("Add", ["one", "small"], ["sum"], "kept"),
            helper.make_node("Sub", ["sum", "x"], ["rest"], "reduced"),
            helper.make_node("Sub", ["sum", "x"], ["exact"], "kept too"),
            helper.make_node("Add", ["x", "tiny"], ["last"], "last"),
        ],
        [("x", FLOAT, [1])],
        [("rest", FLOAT, [1]), ("exact", FLOAT, [1]), ("last", FLOAT, [1])],
        [*two, initializer("tiny", np.array([2**-10], np.float32))],
    )
    kept = {"kept": "test", "kept too": "test"}
    file = to_bfloat16(model, kept).model
    casts = {node.output[0]: node.input[0] for node in file.graph.node if node.op_type == "Cast"}
    inputs = {node.name: list(node.input) for node in file.graph.node}
    assert casts[inputs["reduced"][0]] == inputs["kept too"][0]  # the reduced node reads a cast
    assert "last" in casts  # the output is one too
    rest, exact, last = run(
        twin_of(model, kept), {"x": np.ones(1, np.float32)}, tmp_path, is_fused=False
    )
    assert (rest, exact, last) == (0.0, 2**-9, 1.0)


def test_bfloat16_refuses_an_opset_that_is_too_old():
    model = conv_net()
    model.opset_import[0].version = 17
    with pytest.raises(ConversionError, match="needs opset 18"):
        to_bfloat16(model, {})
