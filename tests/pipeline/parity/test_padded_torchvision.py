"""Outputs of torchvision's detectors that are padded to a fixed length."""

import numpy as np
import pytest

from trtyard.core.coco import COCO_90
from trtyard.core.errors import ParityError
from trtyard.pipeline.models.families.torchvision_detector import KIND
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.parity.padded import of_torchvision

PAIR = ("torch", "onnxruntime")


@pytest.fixture
def padded():
    """Two detections, one of them of the background, and three rows of padding."""
    outputs = {
        "boxes": np.zeros((5, 4), np.float32),
        "scores": np.zeros(5, np.float32),
        "labels": np.zeros(5, np.int64),
        "masks": np.zeros((5, 1, 2, 2), np.float32),
        "count": np.array([2], np.int32),
    }
    outputs["boxes"][:2] = [[1, 2, 30, 40], [5, 5, 9, 9]]
    outputs["scores"][:2] = [0.9, 0.6]
    outputs["labels"][:2] = [7, 0]
    outputs["masks"][:2] = 0.75
    return outputs


def test_count_splits_detections_from_padding(padded):
    found = of_torchvision(padded)
    assert found.labels.tolist() == [7, 0]
    assert (len(found.boxes), found.capacity, found.numbering) == (2, 5, COCO_90)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", np.array([6]), "count is 6 with room for 5 detections"),
        ("count", np.array([-1]), "count is -1 with room for 5 detections"),
        ("count", np.array(2), r"count is \[\], not \[1\]"),
        ("scores", np.full(5, 0.5), r"scores has padding rows \(from row 2 on\) that are not 0"),
        ("masks", np.ones((5, 1, 2, 2)), "masks has padding rows"),
    ],
)
def test_broken_padding_is_named(padded, name, value, message):
    with pytest.raises(ParityError, match=message):
        of_torchvision({**padded, name: value})
    comparison = compare_outputs(KIND.name, PAIR, padded, {**padded, name: value})
    assert not comparison.passed


def test_equal_outputs_agree_and_padding_is_not_compared(padded):
    comparison = compare_outputs(KIND.name, PAIR, padded, padded)
    assert comparison.passed
    assert {row.output: row.elements for row in comparison.parity}["masks"] == 8


def test_lost_detection_fails(padded):
    fewer = {name: value.copy() for name, value in padded.items()}
    for name in ("boxes", "scores", "labels", "masks"):
        fewer[name][1] = 0
    fewer["count"][0] = 1
    comparison = compare_outputs(KIND.name, PAIR, padded, fewer)
    assert not comparison.passed
    assert comparison.detections[0].matched == 1
