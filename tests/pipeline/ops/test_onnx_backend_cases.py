"""ONNX's own cases for RoiAlign and NonMaxSuppression, through the two custom ops."""

import sys

import numpy as np
import onnx
import pytest
import torch
from one_node import nms_by_function, run_in_onnxruntime
from onnx.backend.test.case.node.nonmaxsuppression import NonMaxSuppression
from onnx.backend.test.case.node.roialign import RoiAlign

from trtyard.pipeline.ops import padded_nms, roi_align


def cases_of(base):
    """Yield (name, node, inputs, outputs) of every case that the class defines."""
    module, found = sys.modules[base.__module__], []
    original = module.expect
    module.expect = lambda node, inputs, outputs, name, **_: found.append(
        (name, node, inputs, outputs)
    )
    try:
        for name in dir(base):
            if name.startswith("export"):
                getattr(base, name)()
    finally:
        module.expect = original
    return found


def as_parameters(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


def attributes_of(node):
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


ROI_CASES = cases_of(RoiAlign)
NMS_CASES = cases_of(NonMaxSuppression)


def test_the_cases_were_found():
    assert len(ROI_CASES) >= 3
    assert any(name == "test_roialign_mode_max" for name, *_ in ROI_CASES)
    assert len(NMS_CASES) >= 9


@pytest.mark.parametrize(("node", "inputs", "outputs"), as_parameters(ROI_CASES))
def test_roi_align_cases(node, inputs, outputs):
    given = attributes_of(node)
    attributes = {
        "output_height": given["output_height"],
        "output_width": given["output_width"],
        "spatial_scale": given["spatial_scale"],
        "sampling_ratio": given["sampling_ratio"],
        # As the op has it by default, the case of the maximum too.
        "aligned": int(given.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"),
    }
    if given.get("mode") == b"max":
        attributes["mode"] = 1
    features, rois, images = (np.asarray(value) for value in inputs)
    images = images.astype(np.int32)
    by_torch = roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()
    (by_function,) = run_in_onnxruntime(
        "MaskRcnnROIAlign",
        [features, rois, images],
        [(onnx.TensorProto.FLOAT, 4)],
        **attributes,
    )
    # The cases give four decimals.
    np.testing.assert_allclose(by_torch, outputs[0], atol=1e-4)
    np.testing.assert_allclose(by_function, outputs[0], atol=1e-4)


def by_torch(boxes, scores, **attributes):
    indices, count = padded_nms(torch.from_numpy(boxes), torch.from_numpy(scores), **attributes)
    return indices.numpy(), count.numpy()


@pytest.mark.parametrize("run", [by_torch, nms_by_function], ids=["torch", "function"])
@pytest.mark.parametrize(("node", "inputs", "outputs"), as_parameters(NMS_CASES))
def test_non_max_suppression_cases(node, inputs, outputs, run):
    boxes, scores, limit, iou, score = (*inputs, *[None] * (5 - len(inputs)))
    if attributes_of(node).get("center_point_box"):
        centre, size = boxes[..., :2], boxes[..., 2:]
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1)
    # ONNX takes any two opposite corners.
    boxes = np.concatenate(
        [np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])],
        axis=-1,
    )
    keep = int(np.ravel(limit)[0]) if limit is not None else 0
    selected = []
    for image in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            if keep == 0:
                continue
            indices, count = run(
                boxes[image, None, None],
                scores[image, label][None, None],
                iou_threshold=float(np.ravel(iou)[0]) if iou is not None else 0.0,
                score_threshold=float(np.ravel(score)[0]) if score is not None else -np.inf,
                keep_top_k=min(keep, scores.shape[2]),
                box_offset=0,
            )
            selected += [[image, label, index] for index in indices[0, : count[0]]]
    assert selected == outputs[0].tolist()
