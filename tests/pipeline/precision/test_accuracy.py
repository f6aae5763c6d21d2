"""How a reduced precision is judged."""

import numpy as np
import pytest

from trtyard.core.report import DetectionTolerance
from trtyard.pipeline.parity.padded import Detections
from trtyard.pipeline.precision.accuracy import Pair, accuracy_of
from trtyard.pipeline.precision.average_precision import mean_average_precision
from trtyard.pipeline.precision.budgets import (
    BUDGETS,
    JUDGED_SAMPLES,
    SEEDED_BUDGETS,
    Budget,
    budget_of,
)

BUDGET = Budget(0.1, 0.99, 0.9, 0.8, DetectionTolerance(2.0, 0.05), "test")


def judged(kind, reference, candidate, is_trained=False):
    return accuracy_of(kind, Pair("onnxruntime", reference, candidate), BUDGET, is_trained)


def logits(*rows):
    return [{"logits": np.array([row], np.float32)} for row in rows]


def test_error_and_cosine_are_of_all_samples_together():
    (row,) = judged("tensor", logits([3, 4], [0, 0]), logits([3, 4.1], [0, 0])).values
    assert row.relative_error == pytest.approx(0.02, rel=1e-5)
    assert row.max_abs == pytest.approx(0.1, rel=1e-5)
    assert row.cosine > 0.999
    assert (row.passed, row.samples) == (True, 2)


@pytest.mark.parametrize("wrong", [[3, 4.6], [-3, -4], [0, 0]])
def test_beyond_the_budget_is_no_pass(wrong):
    (row,) = judged("tensor", logits([3, 4]), logits(wrong)).values
    assert not row.passed


@pytest.mark.parametrize("wrong", [[np.nan, 4], [np.inf, 4]])
def test_a_number_that_is_none_is_no_pass(wrong):
    (row,) = judged("tensor", logits([3, 4]), logits(wrong)).values
    assert not row.passed
    assert row.problem == "1 values are NaN or infinite in one of the two"


def test_the_same_infinity_is_left_out_and_another_one_is_not():
    (row,) = judged("tensor", logits([np.inf, 4]), logits([np.inf, 4])).values
    assert (row.passed, row.relative_error) == (True, 0.0)
    (row,) = judged("tensor", logits([np.inf, 4]), logits([-np.inf, 4])).values
    assert not row.passed


def test_zeros_that_stay_zeros_pass():
    (row,) = judged("tensor", logits([0, 0]), logits([0, 0])).values
    assert (row.passed, row.cosine) == (True, 1.0)
    (row,) = judged("tensor", logits([0, 0]), logits([0, 1])).values
    assert not row.passed


def test_another_shape_is_no_pass():
    (row,) = judged("tensor", logits([1, 2]), logits([1, 2, 3])).values
    assert (row.passed, row.problem) == (False, "shape [1, 3] instead of [1, 2]")


def test_classes_are_compared_on_held_out_samples_too():
    reference = logits([9, 1, 2, 3, 4, 5, 6], [1, 9, 2, 3, 4, 5, 6])
    candidate = logits([9, 1, 2, 3, 4, 5, 6], [1, 5.9, 2, 3, 4, 5, 6])
    found = judged("classifier", reference, candidate).agreements
    shares = {(one.measure, one.data): one.value for one in found}
    assert shares == {
        ("top-1", "input"): 1.0,
        ("top-5", "input"): 1.0,
        ("top-1", "held-out"): 0.0,
        ("top-5", "held-out"): 1.0,
    }
    assert {one.least for one in found} == {None}


def test_shares_are_judged_with_trained_weights_only():
    reference = logits(*[[1, 0]] * (JUDGED_SAMPLES + 1))
    candidate = logits([1, 0], *[[0, 1]] * 4, *[[1, 0]] * (JUDGED_SAMPLES - 4))
    for is_trained, bound in ((True, BUDGET.decisions), (False, None)):
        found = judged("classifier", reference, candidate, is_trained).agreements
        (top,) = [one for one in found if one.measure == "top-1" and one.data == "held-out"]
        assert (top.least, top.passed) == (bound, not is_trained)


def test_pixels_of_a_segmenter_are_counted():
    reference = [{"out": np.zeros((1, 2, 4, 4), np.float32)}]
    reference[0]["out"][:, 1] = 1
    candidate = [{"out": reference[0]["out"].copy()}]
    candidate[0]["out"][0, 0, 0, 0] = 2
    (pixels,) = judged("segmenter", reference, candidate).agreements
    assert (pixels.measure, pixels.value, pixels.compared) == ("pixels", 15 / 16, 16)


def test_whole_numbers_are_compared_for_equality():
    reference, candidate = [{"y": np.array([1, 2])}], [{"y": np.array([1, 3])}]
    found = judged("tensor", reference, candidate)
    assert found.values == ()
    assert [(one.measure, one.value) for one in found.agreements] == [("equal y", 0.5)]


def detector_outputs(shift=0.0, count=4, relabelled=0):
    outputs = {
        "boxes": np.zeros((1, 6, 4), np.float32),
        "scores": np.zeros((1, 6), np.float32),
        "labels": np.zeros((1, 6), np.int32),
        "count": np.array([count], np.int32),
    }
    for row in range(count):
        outputs["boxes"][0, row] = [100 * row + shift, 10, 100 * row + 60 + shift, 80]
        outputs["scores"][0, row] = 0.9 - 0.1 * row
        outputs["labels"][0, row] = 1 + row + (10 if row < relabelled else 0)
    return [outputs]


def test_detections_are_matched_in_any_order():
    reference = detector_outputs()
    found = judged("detector", reference, detector_outputs(shift=1.0))
    shares = {one.measure: one for one in found.agreements}
    assert shares["detections"].value == 1.0
    assert shares["mAP"].value == 1.0
    assert [row.output for row in found.values] == ["boxes", "scores"]
    assert all(row.passed for row in found.values)
    found = judged("detector", reference, detector_outputs(relabelled=2))
    shares = {one.measure: one for one in found.agreements}
    assert (shares["detections"].value, shares["detections"].passed) == (0.5, False)
    assert shares["mAP"].value == pytest.approx(0.5)


def test_broken_outputs_of_a_detector_are_no_pass():
    broken = detector_outputs()
    broken[0]["count"][0] = 99
    (row,) = judged("detector", detector_outputs(), broken).values
    assert not row.passed
    assert "count is 99" in row.problem


def detections(boxes, scores, labels):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), np.array(labels), 100
    )


def test_map_falls_with_false_and_missing_detections():
    box, other = [0, 0, 50, 50], [200, 200, 260, 260]
    truth = detections([box, other], [0.9, 0.8], [1, 1])
    assert mean_average_precision([(truth, truth)]) == 1.0
    half = detections([box], [0.9], [1])
    # 51 of COCO's 101 recalls are at most 0.5.
    assert mean_average_precision([(truth, half)]) == pytest.approx(51 / 101)
    false_first = detections([[400, 0, 450, 50], box, other], [0.95, 0.9, 0.8], [1, 1, 1])
    assert mean_average_precision([(truth, false_first)]) < 0.7
    nothing = detections([], [], [])
    assert mean_average_precision([(truth, nothing)]) == 0.0
    assert mean_average_precision([(nothing, nothing)]) == 1.0
    assert mean_average_precision([(nothing, truth)]) == 0.0


def test_map_counts_overlaps_up_to_95_percent():
    truth = detections([[0, 0, 99, 99]], [0.9], [1])
    moved = detections([[0, 0, 99, 79]], [0.9], [1])  # IoU 0.8: at 0.5, 0.55 ... 0.8
    assert mean_average_precision([(truth, moved)]) == pytest.approx(0.7, abs=0.11)


def test_every_budget_says_where_it_comes_from():
    assert sorted(BUDGETS) == sorted(SEEDED_BUDGETS) == ["bf16", "fp16", "fp8", "int8"]
    every = [*BUDGETS.values(), *SEEDED_BUDGETS.values()]
    assert all("docs/precision.md" in each.source for each in every)


def test_seeded_weights_have_a_budget_of_their_own():
    for name in BUDGETS:
        trained, seeded = budget_of(name, True), budget_of(name, False)
        assert trained.relative_error < seeded.relative_error < 1
        assert trained.cosine > seeded.cosine
