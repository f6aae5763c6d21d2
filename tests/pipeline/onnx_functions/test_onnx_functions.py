"""The function bodies, run by ONNX Runtime, against the torch operators."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import nms_by_function, one_node_model, run_in_onnxruntime, run_model
from onnx import TensorProto

from trtyard.pipeline.onnx_functions import OP_TYPES, function, nodes_within
from trtyard.pipeline.ops import padded_nms, roi_align

NEWEST_IN_ONNXRUNTIME = 25  # opset of ONNX Runtime 1.32; it warns of newer ones


def random_boxes(generator, shape, side=300.0, grid=None):
    corner = generator.uniform(0, side, (*shape, 2))
    size = generator.uniform(-5, side / 3, (*shape, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1)
    if grid:  # whole numbers make exact ties in score and IoU
        boxes = np.round(boxes / grid) * grid
    return boxes.astype(np.float32)


def assert_same_nms(boxes, scores, opset=18, **attributes):
    expected = padded_nms(torch.from_numpy(boxes), torch.from_numpy(scores), **attributes)
    actual = nms_by_function(boxes, scores, opset, **attributes)
    np.testing.assert_array_equal(actual[0], expected[0].numpy())
    np.testing.assert_array_equal(actual[1], expected[1].numpy())
    return actual


# Up to the newest that this ONNX Runtime and this onnx both know.
OPSETS = range(16, min(onnx.defs.onnx_opset_version(), NEWEST_IN_ONNXRUNTIME) + 1)
TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", TYPES)
def test_padded_nms_function_accepts_every_type_and_opset(dtype, opset):
    generator = np.random.default_rng(opset)
    boxes = random_boxes(generator, (2, 1, 60))
    scores = generator.random((2, 3, 60), dtype=np.float32)
    attributes = {
        "iou_threshold": 0.5,
        "score_threshold": 0.3,
        "keep_top_k": 20,
        "box_offset": 1,
    }
    tensors = [torch.from_numpy(each).to(dtype) for each in (boxes, scores)]
    expected = padded_nms(*tensors, **attributes)
    actual = nms_by_function(
        boxes, scores, opset, element_type=TYPES[dtype], of_element=2, **attributes
    )
    assert expected[1].tolist() == [20, 20]
    for of_torch, of_onnxruntime in zip(expected, actual):
        np.testing.assert_array_equal(of_onnxruntime, of_torch.numpy())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_roi_align_function_accepts_every_type_and_opset(dtype, mode, opset):
    generator = np.random.default_rng(opset)
    features = generator.normal(size=(2, 3, 13, 17)).astype(np.float32)
    rois = np.float32(
        [
            [9, 20, 150, 99],
            [-20, 3, 260, 180],
            [0, 0, 90, 90],
            [70, 80, 90, 81],
            [-9e3, -8e3, 9e3, 7e3],
        ]
    )  # the last is much larger than the map
    images = np.int32([0, 1, -1, 0, 1])
    attributes = {
        "output_height": 3,
        "output_width": 2,
        "spatial_scale": 1 / 16,
        "sampling_ratio": 0,
        "aligned": opset % 2,
        "mode": mode,
    }
    given = torch.from_numpy(features).to(dtype), torch.from_numpy(rois), torch.from_numpy(images)
    expected = roi_align(*given, **attributes)
    (actual,) = run_in_onnxruntime(
        "MaskRcnnROIAlign",
        [features, rois, images],
        [(TensorProto.FLOAT, 4)],
        opset,
        element_type=TYPES[dtype],
        of_element=1,
        **attributes,
    )
    assert expected.dtype == dtype
    assert not actual[2].any()
    assert all(actual[each].any() for each in (0, 1, 3, 4))
    # One step of the type where a value lies between two.
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    np.testing.assert_allclose(actual, expected.float().numpy(), rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 17, 18, 20, 21])
def test_padded_nms_function_equals_torch_at_each_opset(opset):
    generator = np.random.default_rng(opset)
    boxes = random_boxes(generator, (2, 1, 200))
    scores = generator.random((2, 5, 200), dtype=np.float32)
    _, count = assert_same_nms(
        boxes,
        scores,
        opset,
        iou_threshold=0.5,
        score_threshold=0.3,
        keep_top_k=50,
        box_offset=1,
    )
    assert count.tolist() == [50, 50]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    classes=st.integers(1, 4),
    count=st.integers(0, 60),
    shared=st.booleans(),
    keep=st.integers(0, 40),
    offset=st.integers(0, 1),
    iou=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    score=st.sampled_from([-np.inf, 0.0, 0.5, 2.0]),
    grid=st.sampled_from([None, 10.0]),
    spoil=st.booleans(),
)
def test_padded_nms_function_equals_torch_on_anything(
    seed, batch, classes, count, shared, keep, offset, iou, score, grid, spoil
):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(generator, (batch, 1 if shared else classes, count), grid=grid)
    scores = generator.normal(size=(batch, classes, count)).astype(np.float32)
    if grid:
        scores = np.round(scores * 4) / 4
    if spoil and count:
        boxes[generator.random(boxes.shape) < 0.05] = np.nan
        scores[generator.random(scores.shape) < 0.1] = np.nan
        scores[generator.random(scores.shape) < 0.1] = np.inf
        scores[generator.random(scores.shape) < 0.1] = -np.inf
    assert_same_nms(
        boxes,
        scores,
        iou_threshold=iou,
        score_threshold=score,
        keep_top_k=keep,
        box_offset=offset,
    )


def test_padded_nms_function_keeps_first_of_equal_boxes():
    boxes = np.tile(np.float32([10, 10, 50, 50]), (1, 1, 30, 1))
    scores = np.full((1, 1, 30), 0.9, np.float32)
    indices, count = assert_same_nms(
        boxes, scores, iou_threshold=0.5, score_threshold=0.0, keep_top_k=5, box_offset=0
    )
    assert indices.tolist() == [[0, -1, -1, -1, -1]]
    assert count.tolist() == [1]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    count=st.integers(1, 12),
    channels=st.integers(1, 5),
    sampling=st.integers(0, 3),
    aligned=st.integers(0, 1),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    mode=st.sampled_from([{}, {"mode": 0}, {"mode": 1}]),  # nodes of before it had a mode
)
def test_roi_align_function_equals_torch(
    seed, batch, count, channels, sampling, aligned, height, width, mode
):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(batch, channels, 13, 17)).astype(np.float32)
    rois = random_boxes(generator, (count,))
    images = generator.integers(-1, batch, count).astype(np.int32)
    attributes = {
        "output_height": height,
        "output_width": width,
        "spatial_scale": 1 / 16,
        "sampling_ratio": sampling,
        "aligned": aligned,
        **mode,
    }
    expected = roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()
    (actual,) = run_in_onnxruntime(
        "MaskRcnnROIAlign", [features, rois, images], [(TensorProto.FLOAT, 4)], **attributes
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert not actual[images < 0].any()


@pytest.mark.parametrize("opset", [16, 17, 18, 20, 21])
def test_invalid_rois_give_zeros(opset):
    features = np.random.default_rng(0).normal(size=(2, 3, 10, 10)).astype(np.float32)
    rois = np.float32(
        [[np.nan] * 4, [0, 0, np.inf, 5], [0, -np.inf, 9, 5], [0, 0, 9, 9], [0, 0, 9, 9]]
    )
    images = np.int32([0, 1, 0, 2, 1])  # there are two: 2 is not there
    attributes = {
        "output_height": 2,
        "output_width": 3,
        "spatial_scale": 0.5,
        "sampling_ratio": 2,
        "aligned": 0,
    }
    expected = roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()
    (actual,) = run_in_onnxruntime(
        "MaskRcnnROIAlign",
        [features, rois, images],
        [(TensorProto.FLOAT, 4)],
        opset,
        **attributes,
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert not expected[:4].any()
    assert expected[4].any()


def test_roi_align_function_keeps_half_precision():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(1, 3, 10, 10)).astype(np.float16)
    rois = random_boxes(generator, (4,))
    images = np.zeros(4, np.int32)
    attributes = {
        "output_height": 2,
        "output_width": 2,
        "spatial_scale": 0.1,
        "sampling_ratio": 2,
        "aligned": 0,
    }
    expected = roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()
    (actual,) = run_in_onnxruntime(
        "MaskRcnnROIAlign", [features, rois, images], [(TensorProto.FLOAT16, 4)], **attributes
    )
    assert actual.dtype == np.float16
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-3)


def test_roi_align_function_accepts_other_input_types():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 3, 10, 10)).astype(np.float32)
    rois = np.float16([[3, 4, 60, 70], [0, 0, 30, 20]])
    images = np.int64([1, 0])
    attributes = {
        "output_height": 2,
        "output_width": 2,
        "spatial_scale": 0.1,
        "sampling_ratio": 2,
        "aligned": 0,
    }
    expected = roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()
    for opset in (16, 22):
        # Not through the checker: once this process has the op's schema, it refuses such a node.
        model = one_node_model(
            "MaskRcnnROIAlign", [features, rois, images], [(TensorProto.FLOAT, 4)], opset,
            **attributes,
        )  # fmt: skip
        (actual,) = run_model(model, [features, rois, images])
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 18, 22])
@pytest.mark.parametrize("op_type", OP_TYPES)
def test_every_node_has_a_unique_name(op_type, opset):
    """ONNX Runtime 1.18 refuses a model whose fused nodes get the same name."""
    names = [node.name for node in nodes_within(function(op_type, opset).node)]
    assert all(names)
    assert len(set(names)) == len(names)


def test_an_opset_without_the_needed_ops_is_refused():
    with pytest.raises(ValueError, match="opset 16 or newer"):
        function("PaddedNMS", 11)
