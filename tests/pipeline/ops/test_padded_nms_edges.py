"""PaddedNMS with unusual boxes and scores: all forms on the CPU, and torchvision."""

import numpy as np
import onnx
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import nms_by_function, run_model
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.ops import padded_nms
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.padded_nms_op import cuda

INF, NAN = float("inf"), float("nan")
ATTRIBUTES = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 4, "box_offset": 0}


def by_nodes(boxes, scores, attributes):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node(
                "PaddedNMS", ["boxes", "scores"], ["i", "c"], domain=DOMAIN, **attributes
            )
        ],
        "one_node",
        [
            value("boxes", TensorProto.FLOAT, boxes.shape),
            value("scores", TensorProto.FLOAT, scores.shape),
        ],
        [value("i", TensorProto.INT32, [None] * 2), value("c", TensorProto.INT32, [None])],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = in_standard_ops(helper.make_model(graph, opset_imports=opsets, ir_version=6))
    onnx.checker.check_model(model, full_check=True)
    return run_model(model, [boxes, scores])


def by_all(boxes, scores, **changes):
    """Return the indices and the count that all forms agree on."""
    boxes, scores = np.float32(boxes), np.float32(scores)
    attributes = {**ATTRIBUTES, **changes}
    expected = padded_nms(torch.from_numpy(boxes), torch.from_numpy(scores), **attributes)
    expected = [each.numpy() for each in expected]
    forms = [nms_by_function(boxes, scores, opset, **attributes) for opset in (16, 22)]
    for form in (*forms, by_nodes(boxes, scores, attributes)):
        for got, wanted in zip(form, expected):
            np.testing.assert_array_equal(got, wanted)
    return expected


def apart(count):
    return np.arange(count)[:, None] * 100 + np.float32([0, 0, 9, 9])


@pytest.mark.parametrize("sizes", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (0, 0, 0)])
def test_no_images_no_classes_and_no_boxes_give_padding(sizes):
    batch, _, count = sizes
    indices, found = by_all(np.zeros((batch, 1, count, 4)), np.ones(sizes))
    assert indices.tolist() == [[-1] * 4] * batch
    assert found.tolist() == [0] * batch


def test_more_rows_than_boxes_are_padded():
    indices, found = by_all(apart(3)[None, None], [[[0.2, 0.9, 0.5]]], keep_top_k=7)
    assert indices.tolist() == [[1, 2, 0, -1, -1, -1, -1]]
    assert found.tolist() == [3]


def test_boxes_whose_area_overflows_are_compared_as_infinite():
    huge = [-3e38, -3e38, 3e38, 3e38]
    rows = [huge, huge, [0, 0, 9, 9], [0, 0, 9, 9], [-INF, 0, INF, 9]]
    scores = [[[0.9, 0.8, 0.7, 0.6, 0.5]]]
    assert by_all([[rows]], scores, keep_top_k=9)[1].tolist() == [4]  # one of the usual two is gone
    # The IoU 0 is above a negative threshold; a NaN is not.
    indices, _ = by_all([[rows]], scores, keep_top_k=9, iou_threshold=-1.0)
    assert indices[0, :4].tolist() == [0, 1, 4, -1]


CORNERS = [0.0, -0.0, 1.0, -1.0, 3.0, 10.5, 1e9, -1e30, 3e38, -3e38, INF, -INF, NAN, 1e-45]
SCORES = [0.0, -0.0, 0.5, 0.5, 0.9, 1.0, -1.0, INF, -INF, NAN, 3e38, -3e38, 1e-45]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 25)),
    shared=st.booleans(),
    keep=st.sampled_from([0, 1, 3, 50]),
    offset=st.integers(0, 1),
    iou=st.sampled_from([0.0, 0.5, 1.0, -1.0, INF, -INF]),
    score=st.sampled_from([-INF, -3e38, 0.0, 0.4, INF]),
)
def test_all_forms_agree_on_any_boxes(seed, sizes, shared, keep, offset, iou, score):
    batch, classes, count = sizes
    generator = np.random.default_rng(seed)
    boxes = generator.choice(CORNERS, size=(batch, 1 if shared else classes, count, 4))
    usual = generator.random(boxes.shape[:3]) < 0.5
    boxes[usual] = generator.integers(0, 12, (np.count_nonzero(usual), 4))
    by_all(
        boxes,
        generator.choice(SCORES, size=sizes),
        iou_threshold=iou,
        score_threshold=score,
        keep_top_k=keep,
        box_offset=offset,
    )


def crowd(classes, levels, seed):
    """Boxes on whole numbers, so that no form has anything to round, and scores with ties."""
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 60, (classes, 80, 2))
    boxes = np.concatenate([corner, corner + generator.integers(1, 40, corner.shape)], -1)
    scores = generator.random((classes, 80))
    scores = np.ceil(scores * levels) / levels if levels else scores
    return torch.from_numpy(np.float32(boxes)), torch.from_numpy(np.float32(scores))


def kept(boxes, scores, keep):
    indices, count = padded_nms(boxes[None], scores[None], 0.5, 0.0, keep, 0)
    return indices[0, : int(count[0])].tolist()


@pytest.mark.parametrize("levels", [None, 7, 1])
def test_one_class_matches_torchvision_nms(levels):
    for seed in range(10):
        boxes, scores = crowd(1, levels, seed)
        expected = torchvision.ops.nms(boxes[0], scores[0], 0.5).tolist()
        assert kept(boxes, scores, 200) == expected
        assert kept(boxes, scores, 11) == expected[:11]


@pytest.mark.parametrize("levels", [None, 7, 1])
def test_classes_are_suppressed_separately_then_merged(levels):
    for seed in range(10):
        boxes, scores = crowd(5, levels, seed)
        survivors = [
            label * 80 + index
            for label in range(5)
            for index in torchvision.ops.nms(boxes[label], scores[label], 0.5).tolist()
        ]
        flat = scores.flatten().tolist()
        survivors.sort(key=lambda index: (-flat[index], index))
        assert kept(boxes, scores, 500) == survivors
        assert kept(boxes, scores, 23) == survivors[:23]
        labels = torch.arange(5).repeat_interleave(80)
        batched = torchvision.ops.batched_nms(boxes.view(-1, 4), scores.flatten(), labels, 0.5)
        assert sorted(batched.tolist()) == sorted(survivors)
        if levels is None:
            assert batched.tolist() == survivors


def test_classes_are_never_compared_unlike_batched_nms():
    # Its offset is the largest coordinate and one, 10 a class: the two lie on each other then.
    boxes = torch.tensor([[5.0, 5.0, 9.0, 9.0], [-5.0, -5.0, -1.0, -1.0]])
    scores = torch.tensor([0.9, 0.8])
    batched = torchvision.ops.batched_nms(boxes, scores, torch.tensor([0, 1]), 0.5)
    assert batched.tolist() == [0]
    assert kept(boxes[:, None], scores[:, None], 10) == [0, 1]


@pytest.mark.parametrize("name", ["iou_threshold", "score_threshold"])
def test_nan_threshold_is_refused(name):
    with pytest.raises(ValueError, match="NaN"):
        padded_nms(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1), **{**ATTRIBUTES, name: NAN})


@pytest.mark.parametrize(
    ("boxes", "scores", "words"),
    [
        ((1, 1, 6, 5), (1, 2, 6), "takes boxes"),
        ((1, 1, 5, 4), (1, 2, 6), "do not fit"),
        ((1, 3, 6, 4), (1, 2, 6), "do not fit"),
        ((6, 4), (6,), "takes boxes"),
    ],
)
def test_the_kernel_never_gets_shapes_that_the_reference_refuses(boxes, scores, words, monkeypatch):
    monkeypatch.setattr(cuda, "library_for", lambda _: object())
    with pytest.raises(ValueError, match=words):
        cuda.padded_nms_cuda(torch.zeros(boxes), torch.zeros(scores), *ATTRIBUTES.values())


def test_the_kernel_never_gets_boxes_of_another_device(monkeypatch):
    monkeypatch.setattr(cuda, "library_for", lambda _: object())
    boxes, scores = torch.zeros(1, 1, 6, 4, device="meta"), torch.zeros(1, 2, 6)
    with pytest.raises(ValueError, match="one device"):
        cuda.padded_nms_cuda(boxes, scores, *ATTRIBUTES.values())
