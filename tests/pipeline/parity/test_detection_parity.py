"""The matching against every permutation, and what it says about each way to differ."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtyard.core.report import DetectionTolerance
from trtyard.pipeline.parity.detections import Thresholds, match_detections, maximum_matching
from trtyard.pipeline.parity.padded import Detections, pairwise_iou
from trtyard.pipeline.parity.tolerance import DETECTION

PAIR = ("torch", "onnxruntime")
THRESHOLDS = Thresholds(score=0.05, iou=0.5)


def some_detections(count=13, seed=0, capacity=100):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 400, (count, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(5, 200, (count, 2))], axis=1)
    scores = np.sort(generator.uniform(0.06, 1, count))[::-1]
    labels = generator.integers(1, 81, count)
    return Detections(
        boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int32), capacity
    )


def taken(found, rows):
    return Detections(found.boxes[rows], found.scores[rows], found.labels[rows], found.capacity)


def joined(one, other):
    parts = (np.concatenate(parts) for parts in zip(one[:3], other[:3]))
    return Detections(*parts, one.capacity)


def nothing():
    return some_detections(0)


def test_identical_detections_pass_with_no_difference():
    found = some_detections()
    parity = match_detections(PAIR, found, found)
    assert parity.passed
    assert (parity.reference, parity.candidate) == (13, 13)
    assert (parity.matched, parity.labels_equal) == (13, 13)
    assert (parity.worst_iou, parity.worst_score_diff, parity.worst_box_diff) == (1.0, 0.0, 0.0)
    assert parity.unmatched == ()


@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_matter(seed):
    found = some_detections()
    order = np.random.default_rng(seed).permutation(13)
    parity = match_detections(PAIR, found, taken(found, order))
    assert parity.passed
    assert [match.candidate for match in parity.matches] == np.argsort(order).tolist()
    assert parity.worst_box_diff == 0.0


def test_dropped_detection_fails_and_is_named():
    found = some_detections()
    parity = match_detections(PAIR, found, taken(found, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]))
    assert not parity.passed
    assert (parity.matched, parity.labels_equal) == (12, 12)
    [alone] = parity.unmatched
    assert (alone.runtime, alone.row, alone.label) == ("torch", 3, found.labels[3])
    assert alone.box == tuple(found.boxes[3].tolist())


def test_extra_detection_fails_and_is_named():
    found = some_detections()
    parity = match_detections(PAIR, taken(found, slice(0, 12)), found)
    assert not parity.passed
    assert parity.matched == 12
    assert [(alone.runtime, alone.row) for alone in parity.unmatched] == [("onnxruntime", 12)]


def test_same_detection_twice_in_the_candidate_fails():
    found = some_detections(3)
    parity = match_detections(PAIR, found, taken(found, [0, 1, 2, 2]))
    assert not parity.passed
    assert parity.matched == 3
    assert len(parity.unmatched) == 1


def test_relabelled_detection_is_matched_by_its_box_and_fails():
    found = some_detections()
    labels = found.labels.copy()
    labels[5] = labels[5] % 80 + 1
    parity = match_detections(PAIR, found, found._replace(labels=labels))
    assert not parity.passed
    assert (parity.matched, parity.labels_equal) == (13, 12)
    assert parity.unmatched == ()
    [match] = [match for match in parity.matches if not match.within]
    assert (match.reference, match.candidate) == (5, 5)


@pytest.mark.parametrize("corner", range(4))
def test_box_may_move_by_the_tolerance(corner):
    found = some_detections()
    moved = found.boxes.astype(np.float64)
    moved[7, corner] += 0.049
    near = match_detections(PAIR, found, found._replace(boxes=moved))
    assert near.passed
    assert near.worst_box_diff == pytest.approx(0.049)
    moved[7, corner] += 0.002
    far = match_detections(PAIR, found, found._replace(boxes=moved))
    assert not far.passed
    assert far.matched == 13
    assert far.worst_box_diff == pytest.approx(0.051)


def test_score_may_differ_by_the_tolerance():
    found = some_detections()
    scores = found.scores.astype(np.float64)
    scores[4] += 0.0009
    near = match_detections(PAIR, found, found._replace(scores=scores))
    assert near.passed
    assert near.worst_score_diff == pytest.approx(0.0009)
    scores[4] += 0.0002
    far = match_detections(PAIR, found, found._replace(scores=scores))
    assert not far.passed
    assert far.worst_score_diff == pytest.approx(0.0011)


@pytest.mark.parametrize(("box", "score"), [(0.5, 0.0), (0.0, 0.25)])
def test_difference_equal_to_the_tolerance_passes(box, score):
    one = Detections(np.array([[0.0, 0, 8, 8]]), np.array([0.5]), np.array([1]), 9)
    other = one._replace(boxes=one.boxes + box, scores=one.scores + score)
    assert match_detections(PAIR, one, other, DetectionTolerance(0.5, 0.25)).passed
    assert not match_detections(PAIR, one, other, DetectionTolerance(0.4, 0.2)).passed


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_nearest_detection_within_tolerance_matches(order):
    boxes = np.array([[0, 0, 100, 100], [0.03, 0, 100.03, 100]])
    found = Detections(boxes, np.array([0.5, 0.5002]), np.array([3, 3]), 100)
    parity = match_detections(PAIR, found, taken(found, order))
    assert (parity.worst_box_diff, parity.worst_score_diff) == (0.0, 0.0)
    same_box = found._replace(boxes=boxes[[0, 0]])
    parity = match_detections(PAIR, same_box, taken(same_box, order))
    assert parity.worst_score_diff == 0.0


def test_worst_iou_is_that_of_the_worst_pair():
    found = some_detections()
    boxes = found.boxes.copy()
    boxes[2] += 3
    parity = match_detections(PAIR, found, found._replace(boxes=boxes))
    assert parity.worst_iou == pytest.approx(_iou(found.boxes[2], boxes[2]))
    assert not parity.passed


def _iou(one, other):
    one, other = [float(v) for v in one], [float(v) for v in other]
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]) + 1)
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]) + 1)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def test_iou_of_every_pair_equals_the_definition():
    one, other = some_detections(6, 1), some_detections(4, 2)
    expected = [[_iou(a, b) for b in other.boxes] for a in one.boxes]
    np.testing.assert_allclose(pairwise_iou(one.boxes, other.boxes), expected, rtol=1e-12)


def test_iou_of_boxes_of_one_pixel():
    point = np.array([[5.0, 5.0, 5.0, 5.0]])
    assert pairwise_iou(point, point)[0, 0] == 1.0
    assert pairwise_iou(point, point + 1)[0, 0] == 0.0
    wider = np.array([[5.0, 5.0, 6.0, 5.0]])
    assert pairwise_iou(point, wider)[0, 0] == 0.5
    assert pairwise_iou(point, np.array([[0.0, 0.0, 9.0, 9.0]]))[0, 0] == pytest.approx(0.01)


def test_iou_of_inverted_boxes_is_0():
    inverted = np.array([[9.0, 9.0, 3.0, 3.0]])
    assert pairwise_iou(inverted, inverted)[0, 0] == 0.0
    assert pairwise_iou(inverted, np.array([[0.0, 0.0, 9.0, 9.0]]))[0, 0] == 0.0


def test_zero_width_box_tolerates_rounding():
    found = some_detections(1)._replace(boxes=np.array([[511.0, 100.0, 511.0, 300.0]]))
    moved = found._replace(boxes=found.boxes - 1e-5)
    parity = match_detections(PAIR, found, moved)
    assert parity.passed
    assert parity.worst_iou > 0.9999


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("coordinates", [[0], [2], [0, 2], [0, 1, 2, 3]])
def test_iou_of_boxes_that_are_not_finite_is_0(value, coordinates):
    broken = np.array([[0.0, 0.0, 9.0, 9.0]])
    broken[0, coordinates] = value
    assert pairwise_iou(broken, broken)[0, 0] == 0.0


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [9, 9, 3, 3], [0, 0, 0, 0]])
def test_degenerate_boxes_match_themselves(box):
    found = some_detections(2)._replace(boxes=np.array([box, [0, 0, 9, 9]], np.float32))
    assert match_detections(PAIR, found, found).passed


@pytest.mark.parametrize("count", [1, 2, 100])
def test_equal_detections_match_one_to_one(count):
    one = some_detections(1)
    alike = taken(one, [0] * count)
    parity = match_detections(PAIR, alike, alike)
    assert parity.passed
    assert sorted(match.candidate for match in parity.matches) == list(range(count))
    fewer = match_detections(PAIR, alike, taken(one, [0] * (count - 1)))
    assert not fewer.passed
    assert fewer.matched == count - 1


def test_no_detections_on_either_side_pass_with_no_figures():
    parity = match_detections(PAIR, nothing(), nothing())
    assert parity.passed
    assert (parity.matched, parity.worst_iou, parity.worst_score_diff) == (0, None, None)


@pytest.mark.parametrize("empty", [0, 1])
def test_no_detections_on_one_side_only_fail(empty):
    sides = [some_detections(4), some_detections(4)]
    sides[empty] = nothing()
    parity = match_detections(PAIR, *sides)
    assert not parity.passed
    assert parity.matched == 0
    assert {alone.runtime for alone in parity.unmatched} == {PAIR[1 - empty]}
    assert len(parity.unmatched) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("field", ["boxes", "scores"])
def test_nan_and_infinity_match_nothing(value, field):
    found = some_detections(3)
    broken = getattr(found, field).copy()
    broken[1] = value
    parity = match_detections(PAIR, found, found._replace(**{field: broken}))
    assert not parity.passed


def test_near_duplicates_are_matched_by_score():
    # Matching by overlap alone could pair each with the other.
    boxes = np.array([[0, 0, 100, 100], [0.02, 0, 100.02, 100]], np.float64)
    found = Detections(boxes, np.array([0.9, 0.6]), np.array([3, 3]), 100)
    swapped = taken(found, [1, 0])
    parity = match_detections(PAIR, found, swapped)
    assert parity.passed
    assert [match.candidate for match in parity.matches] == [1, 0]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_passes_if_a_permutation_is_within_tolerance(data):
    """Boxes and scores on a grid of steps near the tolerance make many near-duplicates."""
    count = data.draw(st.integers(0, 5))
    sides = []
    for _ in range(2):
        boxes = np.zeros((count, 4))
        boxes[:, 2:] = 10
        for row in range(count):
            boxes[row] += data.draw(st.integers(0, 3)) * 0.04
        scores = np.array([0.5 + data.draw(st.integers(0, 2)) * 8e-4 for _ in range(count)])
        labels = np.array([data.draw(st.integers(1, 2)) for _ in range(count)], int)
        sides.append(Detections(boxes, scores, labels, 100))
    left, right = sides

    def within(row, column):
        return (
            left.labels[row] == right.labels[column]
            and max(abs(left.boxes[row] - right.boxes[column])) <= DETECTION.box
            and abs(left.scores[row] - right.scores[column]) <= DETECTION.score
        )

    expected = any(
        all(within(row, column) for row, column in enumerate(order))
        for order in itertools.permutations(range(count))
    )
    parity = match_detections(PAIR, left, right)
    assert parity.passed == expected
    used = [match.candidate for match in parity.matches]
    assert len(set(used)) == len(used)
    assert parity.matched * 2 + len(parity.unmatched) == 2 * count


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(0, 5), columns=st.integers(0, 5), data=st.data())
def test_matching_has_the_maximum_size(rows, columns, data):
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)), bool
    ).reshape(rows, columns)
    found = maximum_matching(np.where(allowed, 1.0, np.inf))
    assert all(allowed[row, column] for row, column in found)
    assert len({row for row, _ in found}) == len({column for _, column in found}) == len(found)
    assert len(found) == _largest(allowed, 0, frozenset())


def _largest(allowed, row, used):
    if row == allowed.shape[0]:
        return 0
    best = _largest(allowed, row + 1, used)
    for column in range(allowed.shape[1]):
        if allowed[row, column] and column not in used:
            best = max(best, 1 + _largest(allowed, row + 1, used | {column}))
    return best


def test_thousands_of_detections_are_matched():
    found = some_detections(2000, capacity=2000)
    order = np.random.default_rng(1).permutation(2000)
    assert match_detections(PAIR, found, taken(found, order)).passed


def test_score_near_the_threshold_is_explained_and_still_fails():
    found = some_detections(3)
    last = found._replace(scores=np.array([0.9, 0.8, 0.0504], np.float32))
    parity = match_detections(PAIR, last, taken(last, [0, 1]), thresholds=THRESHOLDS)
    assert not parity.passed
    assert "score threshold 0.05" in parity.unmatched[0].explanation
    far = match_detections(PAIR, found, taken(found, [0, 1]), thresholds=THRESHOLDS)
    assert "score threshold" not in far.unmatched[0].explanation


def test_full_output_explains_its_last_row():
    found = some_detections(4)._replace(scores=np.array([0.9, 0.8, 0.3001, 0.3]))
    full = taken(found, [0, 1, 3])._replace(capacity=3)
    parity = match_detections(PAIR, taken(found, [0, 1, 2])._replace(capacity=3), full)
    reference_only = [alone for alone in parity.unmatched if alone.runtime == "torch"]
    assert "all its 3 rows full" in reference_only[0].explanation


def test_suppression_near_its_threshold_is_explained():
    boxes = np.array([[0, 0, 99, 99], [0, 0, 99, 49.01]], np.float32)  # IoU 0.5001
    found = Detections(boxes, np.array([0.9, 0.7]), np.array([1, 1]), 100)
    parity = match_detections(PAIR, found, taken(found, [0]), thresholds=THRESHOLDS)
    assert "suppression threshold 0.5" in parity.unmatched[0].explanation
    other_class = found._replace(labels=np.array([1, 2]))
    parity = match_detections(PAIR, other_class, taken(other_class, [0]), thresholds=THRESHOLDS)
    assert "suppression" not in parity.unmatched[0].explanation
