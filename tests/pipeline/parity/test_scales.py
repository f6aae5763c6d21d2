"""Outputs of several scales, whose tolerance is too wide for the small one."""

import numpy as np
import pytest

from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.parity.scales import unequal_scales

RANDOM = np.random.RandomState(0)
BOXES = RANDOM.uniform(0, 640, (1, 300, 4)).astype(np.float32)
SCORES = RANDOM.uniform(0, 1, (1, 300, 80)).astype(np.float32)
BOTH = np.concatenate([BOXES, SCORES], axis=-1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (BOTH, "80 of 84 columns (axis 2) have no value above 1,"),
        (BOTH.transpose(0, 2, 1), "80 of 84 columns (axis 1) have no value above 1,"),
        (np.concatenate([BOXES[0], SCORES[0, :, :2]], axis=-1), "2 of 6 columns (axis 1)"),
    ],
)
def test_mixed_scales_in_an_output_are_reported(values, words):
    caution = unequal_scales(values, 1e-4 * float(np.abs(values).max()))
    assert words in caution
    row = compare_outputs("tensor", ("torch", "onnxruntime"), {"y": values}, {"y": values})
    assert row.parity[0].passed
    assert row.parity[0].caution == caution


@pytest.mark.parametrize(
    "values",
    [
        BOXES,
        SCORES,
        BOTH[:, :5],  # too few rows to tell
        RANDOM.normal(size=(1, 1000)),
        RANDOM.normal(size=(2, 21, 16, 16)),
        np.maximum(RANDOM.normal(size=(1, 64, 8, 8)), 0) * (np.arange(64) != 5)[:, None, None],
        RANDOM.normal(size=(1, 64, 8, 8)) * np.where(np.arange(64) == 5, 1e-3, 1)[:, None, None],
        np.zeros((20, 20)),
        np.full((20, 20), np.nan),
        np.ones((20, 0)),
        np.arange(1000),
    ],
)
def test_uniform_scale_is_not_reported(values):
    finite = np.abs(values[np.isfinite(values)])
    assert unequal_scales(values, 1e-4 * float(finite.max() if finite.size else 0)) is None


def test_failed_row_names_only_the_difference():
    wrong = BOTH + 5
    row = compare_outputs("tensor", ("torch", "onnxruntime"), {"y": BOTH}, {"y": wrong})
    assert not row.parity[0].passed
    assert row.parity[0].caution is None
