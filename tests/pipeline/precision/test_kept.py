"""Which nodes stay in fp32."""

import pytest
from onnx import TensorProto, helper
from small_nets import conv_net, initializer, model_of

from trtyard.core.errors import UsageError
from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.precision.kept import (
    COORDINATES,
    CUSTOM_OP,
    NO_BFLOAT16_KERNEL,
    NO_KERNEL,
    NORM,
    SOFTMAX,
    kept_in_bfloat16,
    kept_nodes,
)
from trtyard.pipeline.precision.patterns import nodes_matching

FLOAT = TensorProto.FLOAT


def node(op, inputs, outputs, name=None, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name or op, **attributes)


def test_softmax_is_kept_and_the_rest_is_not():
    assert kept_nodes(conv_net().graph, is_detector=False) == {"softmax": SOFTMAX}


def test_ops_without_a_kernel_are_kept():
    kept = kept_nodes(conv_net().graph, False, ["Relu"])
    assert kept["relu"] == NO_KERNEL


def test_a_norm_in_single_ops_is_kept_whole():
    nodes = [
        node("ReduceMean", "x axes", "mean", "mean"),
        node("Sub", "x mean", "centred", "centre"),
        node("Pow", "centred two", "square", "square"),
        node("ReduceMean", "square axes", "variance", "variance"),
        node("Add", "variance eps", "sum", "add"),
        node("Sqrt", "sum", "root", "root"),
        node("Div", "centred root", "n", "divide"),
        node("Relu", "n", "y", "after"),
    ]
    constants = [
        initializer("axes", [-1]),
        initializer("two", [2.0]),
        initializer("eps", [1e-5]),
    ]
    constants = [one if one.name == "axes" else _float32(one) for one in constants]
    model = model_of(nodes, [("x", FLOAT, [2, 8])], [("y", FLOAT, [2, 8])], constants)
    kept = kept_nodes(model.graph, is_detector=False)
    assert kept == dict.fromkeys(
        ["mean", "centre", "square", "variance", "add", "root", "divide"], NORM
    )


def _float32(tensor):
    from onnx import numpy_helper

    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype("f"), tensor.name)


def test_a_root_without_a_mean_is_no_norm():
    model = model_of(
        [node("Sqrt", "x", "r"), node("Div", "x r", "y")],
        [("x", FLOAT, [2])],
        [("y", FLOAT, [2])],
    )
    assert kept_nodes(model.graph, is_detector=False) == {}


def detector_graph():
    nodes = [
        node("Conv", "x w", "deltas", "regress"),
        node("Exp", "deltas", "sizes", "decode"),
        node("Conv", "x w", "logits", "classify"),
        node("Sigmoid", "logits", "scores", "score"),
        node("Relu", "x", "features", "features"),
        helper.make_node("PaddedNMS", ["sizes", "scores"], ["kept", "count"], "nms", domain=DOMAIN),
        helper.make_node(
            "MaskRcnnROIAlign", ["features", "sizes", "kept"], ["rois"], "align", domain=DOMAIN
        ),
    ]
    return helper.make_graph(nodes, "detector", [], [])


def test_boxes_and_scores_are_kept_up_to_the_last_convolution():
    assert kept_nodes(detector_graph(), is_detector=False) == {
        "decode": COORDINATES,
        "score": COORDINATES,
        "nms": CUSTOM_OP,
        "align": CUSTOM_OP,
    }


def test_rois_of_a_pyramid_are_kept():
    nodes = [
        node("Conv", "x w", "deltas", "regress"),
        node("Exp", "deltas", "sizes", "decode"),
        node("Relu", "x", "map", "features"),
        helper.make_node(
            "MultiscaleRoIAlign", ["map"] * 5 + ["sizes", "sizes"], ["rois"], "pool", domain=DOMAIN
        ),
    ]
    graph = helper.make_graph(nodes, "detector", [], [])
    kept = {"decode": COORDINATES, "pool": CUSTOM_OP}
    assert kept_nodes(graph, is_detector=False) == kept


def test_what_leads_to_a_detectors_outputs_is_kept():
    model = model_of(
        [
            node("Gemm", "x w", "d", "regress"),
            node("Add", "d d", "y", "decode"),
        ],
        [("x", FLOAT, [1, 2])],
        [("y", FLOAT, [1, 2])],
        [_float32(initializer("w", [[1.0, 2.0], [3.0, 4.0]]))],
    )
    assert kept_nodes(model.graph, is_detector=True) == {"decode": COORDINATES}
    assert kept_nodes(model.graph, is_detector=False) == {}


def pasted_masks():
    nodes = [
        node("Gemm", "x w", "boxes", "regress"),
        node("Sub", "boxes boxes", "down", "weights"),
        node("Gemm", "x w", "logits", "classify"),
        node("Sigmoid", "logits", "mask", "mask"),
        node("MatMul", "down mask", "y", "paste"),
    ]
    values = [_float32(initializer("w", [[1.0, 2.0], [3.0, 4.0]]))]
    return model_of(nodes, [("x", FLOAT, [2, 2])], [("y", FLOAT, [2, 2])], values).graph


def test_coordinates_that_paste_a_detectors_masks_are_kept():
    kept = kept_nodes(pasted_masks(), is_detector=True)
    assert kept == dict.fromkeys(["weights", "mask", "paste"], COORDINATES)
    assert kept_nodes(pasted_masks(), is_detector=False) == {}


@pytest.mark.parametrize("moving", ["Identity", "Transpose"])
def test_a_product_with_weights_is_a_layer_of_features(moving):
    nodes = [
        node("Relu", "x", "features"),
        node(moving, "w", "moved"),
        node("MatMul", "features moved", "scores", "layer"),
        node("Sigmoid", "scores", "y", "score"),
    ]
    values = [_float32(initializer("w", [[1.0, 2.0], [3.0, 4.0]]))]
    model = model_of(nodes, [("x", FLOAT, [2, 2])], [("y", FLOAT, [2, 2])], values)
    assert kept_nodes(model.graph, is_detector=True) == {"score": COORDINATES}


def test_transposed_convolution_is_kept_in_bfloat16():
    nodes = [
        node("Softmax", "x", "p"),
        node("ConvTranspose", "p w", "y", "up"),
    ]
    values = [_float32(initializer("w", [[[[1.0]]]]))]
    shape = [1, 1, 2, 2]
    graph = model_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], values).graph
    kept = kept_nodes(graph, is_detector=False)
    assert kept == {"Softmax": SOFTMAX}
    assert kept_in_bfloat16(graph, kept) == {"up": NO_BFLOAT16_KERNEL, **kept}


def test_patterns_match_names_and_op_types():
    graph = conv_net().graph
    assert nodes_matching(graph, "Conv, he*") == {"conv", "head"}


@pytest.mark.parametrize(("pattern", "near"), [("Cnov", "Conv"), ("haed", "head")])
def test_a_pattern_without_a_match_names_similar_ones(pattern, near):
    with pytest.raises(UsageError, match=f"no node matches '{pattern}'") as refused:
        nodes_matching(conv_net().graph, f"Conv,{pattern}")
    assert near in refused.value.hint


def test_a_pattern_like_nothing_lists_the_op_types():
    with pytest.raises(UsageError) as refused:
        nodes_matching(conv_net().graph, "zzzzzzzz")
    assert "Conv, Flatten, Gemm" in refused.value.hint
