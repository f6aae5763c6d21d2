"""The best pairs of each level, against a plain selection."""

import pytest
import torch
from torchvision.ops import boxes as box_ops

from trtyard.pipeline.models.static_detectors.levels import best_candidates

CLASSES = 7
SIZE = (40, 50)


def plain(scores, deltas, anchors, keep):
    """Return the same candidates, level by level."""
    found = []
    for each, delta, anchor in zip(scores, deltas, anchors, strict=True):
        value, index = each.flatten().sort(descending=True, stable=True)
        for score, pair in zip(value[:keep].tolist(), index[:keep].tolist(), strict=True):
            anchor_of, label = divmod(pair, CLASSES)
            box = box_ops.clip_boxes_to_image((delta + anchor)[anchor_of][None], SIZE)[0]
            found.append((score, label, box.tolist()))
    return found


def levels(counts, step):
    torch.manual_seed(0)
    scores = [torch.rand(count, CLASSES) for count in counts]
    if step:  # many equal scores
        scores = [torch.round(each / step) * step for each in scores]
    values = [[torch.rand(count, 4) * 45 for count in counts] for _ in range(2)]
    return (scores, *values)


# The second level has fewer pairs than 20, the last one has one anchor.
@pytest.mark.parametrize("counts", [(60, 2, 1), (3, 2, 1), (30, 25, 22)])
@pytest.mark.parametrize("keep", [1, 5, 20])
@pytest.mark.parametrize("step", [0, 0.25])
def test_candidates_are_the_best_pairs_of_each_level(counts, keep, step):
    scores, deltas, anchors = levels(counts, step)
    found = best_candidates(
        scores, torch.cat(deltas), torch.cat(anchors), keep, lambda a, b: a + b, SIZE
    )
    real = found.scores >= 0
    number = min(keep, max(counts) * CLASSES)
    assert len(found.scores) == len(counts) * min(number, min(keep, max(counts)) * CLASSES)
    boxes, labels = found.boxes[real].tolist(), found.labels[real].tolist()
    pairs = list(zip(found.scores[real].tolist(), labels, boxes, strict=True))
    assert sorted(pairs) == sorted(plain(scores, deltas, anchors, keep))


def test_padding_is_below_every_threshold():
    scores, deltas, anchors = levels((60, 1), 0)
    found = best_candidates(
        scores, torch.cat(deltas), torch.cat(anchors), 20, lambda a, b: a + b, SIZE
    )
    assert int((found.scores[20:] == -1).sum()) == 20 - CLASSES
    assert torch.isfinite(found.boxes).all()
