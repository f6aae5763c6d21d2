"""Models cut into graphs of one node, against ONNX Runtime on the whole."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import UsageError
from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION, function
from trtyard.pipeline.onnx_model.one_node import inner_ops, one_node_models
from trtyard.pipeline.onnx_model.trial_run import trial_run
from trtyard.pipeline.onnx_model.versions import session

node = helper.make_node


def tensor(name, shape, of_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, of_type, shape)


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def model_of(nodes, inputs, outputs, constants=(), functions=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(constants))
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=list(functions),
        ir_version=10,
    )


def reshaped_by_its_own_shape():
    """Shapes that inference alone does not know: computed from Shape, Gather and Concat."""
    return model_of(
        [
            node("Relu", ["x"], ["r"], name="relu"),
            node("Shape", ["r"], ["s"], name="shape"),
            node("Gather", ["s", "zero"], ["batch"], name="gather"),
            node("Concat", ["batch", "minus"], ["to"], axis=0, name="concat"),
            node("Reshape", ["r", "to"], ["y"], name="reshape"),
            node("Neg", ["y"], ["z"], name="neg"),
        ],
        [tensor("x", [2, 3, 4])],
        [tensor("z", None)],
        [constant("zero", [0]), constant("minus", [-1])],
    )


def test_initializer_that_is_also_an_input_keeps_its_value():
    scalars = [helper.make_tensor(name, 7, [], [value]) for name, value in zip("abc", (0, 5, 1))]
    graph = helper.make_graph(
        [helper.make_node("Range", ["a", "b", "c"], ["y"])],
        "graph",
        [helper.make_tensor_value_info(name, 7, []) for name in "abc"],
        [helper.make_tensor_value_info("y", 7, None)],
        initializer=scalars,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    found = trial_run(model)["y"]
    assert (found.shape, found.value.tolist()) == ((5,), [0, 1, 2, 3, 4])


def test_every_tensor_has_its_shape_from_a_trial_run():
    tensors = trial_run(reshaped_by_its_own_shape())
    assert tensors["y"].shape == tensors["z"].shape == (2, 12)
    assert tensors["to"].value.tolist() == [2, -1]
    assert tensors["r"].value is None  # of no use, and large in a real model


def test_one_node_model_matches_the_whole_model(tmp_path):
    model = reshaped_by_its_own_shape()
    ones = one_node_models(model)
    assert [one.op for one in ones] == ["Relu", "Shape", "Gather", "Concat", "Reshape", "Neg"]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(
        tensor(name, None, TensorProto.FLOAT if name in "ryz" else TensorProto.INT64)
        for name in ("r", "s", "batch", "to", "y", "z")
    )
    values = run(whole, tmp_path, {"x": np.random.RandomState(1).rand(2, 3, 4).astype("f")})
    for one in ones:
        onnx.checker.check_model(one.model, full_check=True)
        assert sum(each.op_type != "Constant" for each in one.model.graph.node) == 1
        given = {each.name: values.get(each.name, values["x"]) for each in one.model.graph.input}
        for name, value in run(one.model, tmp_path, given).items():
            np.testing.assert_array_equal(value, values[name])


def run(model, folder, given):
    onnx.save(model, folder / "model.onnx")
    runtime = session(folder / "model.onnx")
    names = [each.name for each in runtime.get_outputs()]
    return {**given, **dict(zip(names, runtime.run(names, given)))}


def test_shape_inputs_become_constants():
    reshape = next(
        one for one in one_node_models(reshaped_by_its_own_shape()) if one.op == "Reshape"
    )
    graph = reshape.model.graph
    assert [each.name for each in graph.input] == ["r"]
    assert [(each.name, numpy_helper.to_array(each).tolist()) for each in graph.initializer] == [
        ("to", [2, -1])
    ]


def test_equal_nodes_share_one_model():
    model = model_of(
        [
            node("TopK", ["x", "k2"], ["a", "ai"], name="two"),
            node("TopK", ["x", "k2"], ["b", "bi"], name="two_again"),
            node("TopK", ["x", "k3"], ["c", "ci"], name="three"),
            node("TopK", ["x", "k2"], ["d", "di"], name="smallest", largest=0),
        ],
        [tensor("x", [1, 9])],
        [tensor(name, None) for name in "abcd"],
        [constant("k2", [2]), constant("k3", [3])],
    )
    assert [[each.name for each in one.nodes] for one in one_node_models(model)] == [
        ["two", "two_again"],
        ["three"],
        ["smallest"],
    ]


def test_cache_key_depends_on_weight_shapes_only():
    model = model_of(
        [node("MatMul", ["x", name], [f"y{name}"]) for name in ("v", "w", "wide")],
        [tensor("x", [1, 4])],
        [tensor(f"y{name}", None) for name in ("v", "w", "wide")],
        [
            constant("v", np.zeros((4, 4), "f")),
            constant("w", np.ones((4, 4), "f")),
            constant("wide", np.ones((4, 9), "f")),
        ],
    )
    assert [len(one.nodes) for one in one_node_models(model)] == [2, 1]


def test_a_custom_op_keeps_its_function():
    attributes = {"iou_threshold": 0.5, "score_threshold": 0.0, "keep_top_k": 5, "box_offset": 0}
    model = model_of(
        [node("PaddedNMS", ["b", "s"], ["i", "n"], domain=DOMAIN, **attributes)],
        [tensor("b", [1, 1, 9, 4]), tensor("s", [1, 1, 9])],
        [tensor("i", [1, 5], TensorProto.INT32), tensor("n", [1], TensorProto.INT32)],
        functions=[function("PaddedNMS", 18)],
    )
    (one,) = one_node_models(model)
    assert one.op == "trtyard::PaddedNMS"
    assert [each.name for each in one.model.functions] == ["PaddedNMS"]


def test_subgraphs_keep_their_outer_inputs():
    then = helper.make_graph(
        [node("Relu", ["x"], ["t"]), node("Neg", ["t"], ["a"])], "then", [], [tensor("a", [4])]
    )
    otherwise = helper.make_graph([node("Abs", ["x"], ["b"])], "else", [], [tensor("b", [4])])
    model = model_of(
        [node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)],
        [tensor("x", [4]), tensor("c", [], TensorProto.BOOL)],
        [tensor("y", [4])],
    )
    (one,) = one_node_models(model)
    assert [each.name for each in one.model.graph.input] == ["c", "x"]
    assert sorted(inner_ops(one.nodes[0])) == ["Abs", "Neg", "Relu"]


def test_nodes_after_an_empty_result_are_unknown():
    model = model_of(
        [
            node("Greater", ["x", "high"], ["g"]),
            node("NonZero", ["g"], ["n"]),
            node("Transpose", ["n"], ["y"]),
        ],
        [tensor("x", [4])],
        [tensor("y", None, TensorProto.INT64)],
        [constant("high", np.float32(5))],
    )
    ones = {one.op: one for one in one_node_models(model)}
    assert ones["NonZero"].model is not None
    assert ones["Transpose"].model is None
    assert "empty in a trial run" in ones["Transpose"].problem


def test_an_input_without_a_fixed_shape_is_refused():
    model = model_of([node("Relu", ["x"], ["y"])], [tensor("x", ["batch", 4])], [tensor("y", None)])
    with pytest.raises(UsageError, match="input x of the file has no fixed shape"):
        one_node_models(model)
