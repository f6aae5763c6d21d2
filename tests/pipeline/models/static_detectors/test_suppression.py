"""PaddedNMS in the place of torchvision's batched_nms: equal detections in equal order."""

import pytest
import torch
from torchvision.ops import boxes as box_ops

from trtyard.pipeline.models.static_detectors.suppression import (
    Candidates,
    suppress_by_class,
    suppress_candidates,
    whole_quotient,
)

CLASSES = 91
SIDE = 1333.0
ROWS = 2000
THRESHOLDS = (0.3, 0.5)


def candidates(count, seed, levels=0, size=20):
    """Random boxes in clusters; ``levels`` rounds the scores, so that many are equal."""
    draw = torch.Generator().manual_seed(seed)
    centers = torch.rand(12, 2, generator=draw) * SIDE
    middle = centers[torch.randint(0, 12, (count,), generator=draw)]
    middle = middle + torch.randn(count, 2, generator=draw) * size / 2
    half = (torch.rand(count, 2, generator=draw) + 1) * size
    boxes = torch.cat([middle - half, middle + half], 1).clamp(0, SIDE)
    scores = torch.rand(count, generator=draw)
    if levels:
        scores = torch.round(scores * levels) / levels
    labels = torch.randint(0, 4, (count,), generator=draw) * 30  # far apart, so shifts are large
    return Candidates(boxes, scores, labels)


def torchvisions(found, suppress=box_ops.batched_nms):
    """Return torchvision's detections, the candidates below the threshold removed."""
    live = found.scores > THRESHOLDS[0]
    boxes, scores, labels = (each[live] for each in found)
    kept = suppress(boxes, scores, labels, THRESHOLDS[1])
    return boxes[kept], scores[kept], labels[kept]


def equal(padded, expected):
    count = int(padded["count"])
    assert count < ROWS
    names = ("boxes", "scores", "labels")
    assert not any(padded[name][count:].any() for name in names)
    return all(
        torch.equal(padded[name][:count], each) for name, each in zip(names, expected, strict=True)
    )


@pytest.fixture
def stable(monkeypatch):
    """Make batched_nms keep the order of equal scores: its last sort leaves it open."""

    def sort(values, dim=-1, descending=False):
        return torch.sort(values, dim=dim, descending=descending, stable=True)

    monkeypatch.setattr(torch.Tensor, "sort", sort)


# Of 1300 candidates about 910 are above the threshold, and of 1500 about 1050: on either side of
# the number up to which torchvision shifts boxes.
@pytest.mark.parametrize("count", [1, 40, 1300, 1500, 3000])
@pytest.mark.parametrize("seed", range(3))
def test_detections_are_those_of_batched_nms(count, seed):
    found = candidates(count, seed)
    assert equal(suppress_candidates(found, CLASSES, THRESHOLDS, ROWS), torchvisions(found))


def test_shifted_boxes_change_detections():
    differing = []
    for seed in range(20):
        found = candidates(1300, seed, size=2)  # a shift by 120,000 rounds to 1/128 pixel
        assert int((found.scores > THRESHOLDS[0]).sum()) <= 1000
        plain = torchvisions(found, box_ops._batched_nms_vanilla)
        padded = suppress_candidates(found, CLASSES, THRESHOLDS, ROWS)
        assert equal(padded, torchvisions(found))
        differing.append(not equal(padded, plain))
    assert any(differing)


@pytest.mark.parametrize("count", [1300, 2000])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("stable")
def test_equal_scores_keep_the_order_of_candidates(seed, count):
    found = candidates(count, seed, levels=20)
    assert equal(suppress_candidates(found, CLASSES, THRESHOLDS, ROWS), torchvisions(found))


def test_cut_between_equal_scores_keeps_the_scores():
    found = candidates(1300, 0, levels=4)
    rows = 50
    padded = suppress_candidates(found, CLASSES, THRESHOLDS, rows)
    expected = torchvisions(found)
    assert int(padded["count"]) == rows < len(expected[1])
    assert torch.equal(padded["scores"], expected[1][:rows])


@pytest.mark.parametrize(("per_class", "seed"), [(5, 0), (5, 1), (60, 2)])
@pytest.mark.parametrize("levels", [0, 20])
@pytest.mark.usefixtures("stable")
def test_detections_by_class_are_those_of_batched_nms(per_class, seed, levels):
    count = 30 * per_class
    flat = candidates(count, seed, levels)
    labels = torch.arange(1, 31)[:, None].expand(30, per_class)
    found = Candidates(
        flat.boxes.reshape(30, per_class, 4), flat.scores.reshape(30, per_class), labels
    )
    expected = torchvisions(Candidates(flat.boxes, flat.scores, labels.reshape(-1)))
    assert equal(suppress_by_class(found, THRESHOLDS, ROWS), expected)


@pytest.mark.parametrize("scores", [torch.zeros(50), torch.full((50,), THRESHOLDS[0])])
def test_no_candidate_above_the_threshold_gives_padding(scores):
    found = candidates(50, 0)._replace(scores=scores)
    padded = suppress_candidates(found, CLASSES, THRESHOLDS, 10)
    assert all(not each.any() for each in padded.values())


@pytest.mark.parametrize("divisor", [1, 3, 91, 1000, 5000])
def test_quotients_are_those_of_integers(divisor):
    values = torch.arange(0, 1 << 22, 7)
    values = torch.cat([values, torch.arange(0, 1 << 22, divisor)])
    expected = torch.div(values, divisor, rounding_mode="floor")
    assert torch.equal(whole_quotient(values, divisor), expected)
