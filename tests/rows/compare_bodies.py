"""The custom ops in standard ops of opset 11, run by this ONNX Runtime, against torch.

Plain Python 3.6 without pytest: it runs in the rows' own environments. Ends with the number of
cases that agreed, or with the first that did not.
"""

import itertools
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # before anything reads it: more threads only wait here

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.ops import multiscale_roi_align, padded_nms, roi_align
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.multiscale_roi_align_op.contract import OP as MULTISCALE
from trtyard.pipeline.ops.padded_nms_op.contract import OP as PADDED_NMS
from trtyard.pipeline.ops.roi_align_op.contract import OP as ROI_ALIGN

OPSET = 11
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
OUTPUTS = {PADDED_NMS: [(TensorProto.INT32, 2), (TensorProto.INT32, 1)]}
OUTPUTS[ROI_ALIGN] = OUTPUTS[MULTISCALE] = [(TensorProto.FLOAT, 4)]


def run_inlined(op, inputs, **attributes):
    """Run one node in standard ops and return its outputs."""
    import onnxruntime

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op.op_type, op.inputs, op.outputs, domain=DOMAIN, **attributes)],
        "one_node",
        [value(name, TYPES[each.dtype], each.shape) for name, each in zip(op.inputs, inputs)],
        [value(name, kind, [None] * rank) for name, (kind, rank) in zip(op.outputs, OUTPUTS[op])],
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = helper.make_model(graph, opset_imports=domains)
    model.ir_version = 4
    standalone = in_standard_ops(model)
    onnx.checker.check_model(standalone, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            standalone.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except TypeError:  # before 1.3
        session = onnxruntime.InferenceSession(standalone.SerializeToString(), options)
    return session.run(None, dict(zip(op.inputs, inputs)))


def random_boxes(generator, shape, grid):
    corner = generator.uniform(0, 300, (*shape, 2))
    size = generator.uniform(-5, 100, (*shape, 2))  # some are inside out
    boxes = np.concatenate([corner, corner + size], axis=-1)
    if grid:  # whole numbers make exact ties in score and IoU
        boxes = np.round(boxes / grid) * grid
    return boxes.astype(np.float32)


def spoil(generator, boxes, scores):
    boxes[generator.uniform(size=boxes.shape) < 0.05] = np.nan
    for number in (np.nan, np.inf, -np.inf):
        scores[generator.uniform(size=scores.shape) < 0.1] = number


def compare_nms(boxes, scores, **attributes):
    expected = padded_nms(torch.from_numpy(boxes), torch.from_numpy(scores), **attributes)
    actual = run_inlined(PADDED_NMS, [boxes, scores], **attributes)
    for of_torch, of_onnxruntime in zip(expected, actual):
        np.testing.assert_array_equal(of_onnxruntime, of_torch.numpy(), str(attributes))
        assert of_onnxruntime.dtype == np.int32
    return actual


def nms_at_random():
    sizes = [(1, 1, 0), (1, 1, 1), (2, 3, 60), (3, 1, 200), (1, 80, 100)]
    for seed, (size, shared, grid, spoiled, iou, score) in enumerate(
        itertools.product(
            sizes, [True, False], [None, 10], [False, True], [0.0, 0.5, 0.7, 1.0], [-0.5, 0.5, 2.0]
        )
    ):
        batch, classes, count = size
        generator = np.random.RandomState(seed)
        boxes = random_boxes(generator, (batch, 1 if shared else classes, count), grid)
        scores = generator.normal(size=size).astype(np.float32)
        if grid:
            scores = np.round(scores * 4) / 4
        if spoiled:
            spoil(generator, boxes, scores)
        keep = [1, 7, 40][seed % 3]
        compare_nms(
            boxes,
            scores,
            iou_threshold=iou,
            score_threshold=score,
            keep_top_k=keep,
            box_offset=seed % 2,
        )
        yield


def nms_edges():
    attributes = {
        "iou_threshold": 0.5,
        "score_threshold": 0.0,
        "keep_top_k": 5,
        "box_offset": 0,
    }
    alike = np.tile(np.float32([10, 10, 50, 50]), (1, 1, 2000, 1))
    indices, count = compare_nms(alike, np.full((1, 1, 2000), 0.9, np.float32), **attributes)
    assert indices.tolist() == [[0, -1, -1, -1, -1]]
    assert count.tolist() == [1]
    yield
    apart = alike + np.arange(2000, dtype=np.float32)[None, None, :, None] * 100
    indices, _ = compare_nms(apart, np.full((1, 1, 2000), 0.9, np.float32), **attributes)
    assert indices.tolist() == [[0, 1, 2, 3, 4]]
    yield
    _, count = compare_nms(apart, np.full((1, 1, 2000), -1, np.float32), **attributes)
    assert count.tolist() == [0]
    yield
    _, count = compare_nms(alike * np.nan, np.full((1, 1, 2000), 0.9, np.float32), **attributes)
    assert count.tolist() == [5]
    yield
    degenerate = alike.copy()
    degenerate[..., 2:] = degenerate[..., :2]
    compare_nms(degenerate, np.full((1, 1, 2000), 0.9, np.float32), **attributes)
    yield
    attributes["keep_top_k"] = 0
    indices, count = compare_nms(
        np.concatenate([alike, alike]), np.full((2, 1, 2000), 0.9, np.float32), **attributes
    )
    assert indices.shape == (2, 0)
    assert count.tolist() == [0, 0]
    yield


def compare_roi_align(features, rois, images, **attributes):
    tensors = (torch.from_numpy(each) for each in (features, rois, images))
    expected = roi_align(*tensors, **attributes).numpy()
    (actual,) = run_inlined(ROI_ALIGN, [features, rois, images], **attributes)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    return actual


def roi_align_edges():
    broken = [[np.nan] * 4, [0, 0, np.inf, 5], [0, -np.inf, 9, 5], [0, np.nan, 9, 5], [0, 0, 9, 9]]
    odd = [[5, 5, 5, 5], [9, 9, 2, 2], [-100, -100, 500, 500], [1e6, 1e6, 2e6, 2e6]]
    images = np.int32([0, 1, 0, 1, 2, 0, 1, 0, 1])  # there are two: 2 is not there
    actual = compare_roi_align(
        np.random.RandomState(0).normal(size=(2, 3, 10, 10)).astype(np.float32),
        np.float32(broken + odd),
        images,
        output_height=2,
        output_width=3,
        spatial_scale=0.5,
        sampling_ratio=2,
        aligned=0,
    )
    assert not actual[: len(broken)].any()
    assert actual[len(broken)].any()
    yield
    far = [[-2e38, -2e38, 2e38, 2e38], [0, 0, 2**21, 9], [-2e4, -1e4, 2e4, 3e4], [3, 2, 2e4, 9]]
    inverted = [[9, 2, 3, 8], [9, 8, 3, 2], [0, 0, 9, 9]]
    features = np.random.RandomState(1).normal(size=(1, 3, 10, 10)).astype(np.float32)
    for sampling, mode, scale in itertools.product([0, 1, 3], [0, 1], [0.5, 1e-30, -1.0]):
        images = np.int32([0] * 6 + [-1])
        actual = compare_roi_align(
            features,
            np.float32(far + inverted),
            images,
            output_height=2,
            output_width=3,
            spatial_scale=scale,
            sampling_ratio=sampling,
            aligned=0,
            mode=mode,
        )
        assert not actual[-1].any()
        yield
    for shape in ((0, 2, 5, 5), (1, 2, 0, 5), (1, 2, 5, 0)):
        actual = compare_roi_align(
            np.zeros(shape, np.float32),
            np.float32(inverted),
            np.int32([0, 0, 0]),
            output_height=2,
            output_width=3,
            spatial_scale=1.0,
            sampling_ratio=0,
            aligned=0,
        )
        assert not actual.any()
        yield


def roi_align_at_random():
    cases = itertools.product([1, 3], [0, 1, 12], [0, 1, 3], [(1, 1), (7, 5), (14, 14)])
    for seed, (batch, count, sampling, (height, width)) in enumerate(cases):
        generator = np.random.RandomState(seed)
        features = generator.normal(size=(batch, 4, 13, 17)).astype(np.float32)
        rois = random_boxes(generator, (count,), None)
        images = generator.randint(-1, batch, count).astype(np.int32)
        attributes = {
            "output_height": height,
            "output_width": width,
            "spatial_scale": 1 / 16,
            "sampling_ratio": sampling,
            "aligned": 0,
        }
        actual = compare_roi_align(features, rois, images, **attributes)
        assert not actual[images < 0].any()
        yield


def pyramids():
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
    for seed, (levels, count, sampling) in enumerate(itertools.product([2, 4, 5], [1, 12], [0, 2])):
        generator = np.random.RandomState(seed)
        maps = [
            generator.normal(size=(2, 3, int(160 * scale), int(192 * scale))).astype(np.float32)
            for scale in scales[:levels]
        ]
        corner = generator.uniform(-20, 150, (count, 2))
        side = 2 ** generator.uniform(2, 10, (count, 1))
        rois = np.concatenate([corner, corner + side], 1).astype(np.float32)
        rois[:1, 2] = rois[:1, 0] - (5 if count > 1 else -5)  # inverted on one axis: no level
        images = generator.randint(-1, 2, count).astype(np.int32)
        tensors = [torch.from_numpy(each) for each in (*maps, rois, images)]
        expected = multiscale_roi_align(
            tensors[:levels], *tensors[levels:], (3, 2), scales[:levels], sampling
        )
        missing = 5 - levels
        numbers = [*scales[:levels], *[0.0] * missing]
        (actual,) = run_inlined(
            MULTISCALE,
            [*maps, *[maps[-1]] * missing, rois, images],
            output_height=3,
            output_width=2,
            sampling_ratio=sampling,
            aligned=0,
            canonical_scale=224,
            canonical_level=4,
            **{f"scale_{level}": number for level, number in enumerate(numbers)},
        )
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-5)
        yield


if __name__ == "__main__":
    parts = (nms_at_random, nms_edges, roi_align_at_random, roi_align_edges, pyramids)
    agreed = sum(1 for part in parts for _ in part())
    sys.stdout.write(f"{agreed} cases agree\n")
