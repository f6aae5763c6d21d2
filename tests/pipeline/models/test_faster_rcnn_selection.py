"""Choosing the highest scores in pieces, with ties, against one stable sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trtyard.pipeline.models.faster_rcnn import selection
from trtyard.pipeline.models.faster_rcnn.selection import (
    TENSORRT_TOPK_LIMIT,
    highest,
    take_rows,
    top_k,
)


def scores_with_ties(batch, count, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand((batch, count), generator=generator)
    return scores if levels is None else torch.round(scores * levels) / levels


def check(scores, keep):
    chosen = highest(scores, scores.shape[1], keep)
    assert tuple(chosen.shape) == (scores.shape[0], keep)
    for row, indices in zip(scores, chosen):
        stable = torch.sort(row, descending=True, stable=True)[1][:keep]
        assert sorted(indices.tolist()) == sorted(stable.tolist())
        # A stable sort of what was chosen gives the very order of the stable sort of everything.
        again = torch.sort(row[indices], descending=True, stable=True)[1]
        assert indices[again].tolist() == stable.tolist()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    count=st.integers(1, 80),
    keep=st.integers(1, 80),
    levels=st.sampled_from([None, 1, 2, 5, 20]),
    limit=st.sampled_from([1, 3, 7, 40]),
)
def test_highest_matches_a_stable_sort(seed, batch, count, keep, levels, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "TENSORRT_TOPK_LIMIT", limit)
        check(scores_with_ties(batch, count, levels, seed), min(keep, count))


@pytest.mark.parametrize("levels", [None, 1, 50])
@pytest.mark.parametrize(("count", "keep"), [(15360, 6000), (6000, 6000), (6001, 6000)])
def test_highest_supports_the_detectors_counts(count, keep, levels):
    check(scores_with_ties(1, count, levels, 0), keep)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_scores_select_the_first(value):
    chosen = highest(torch.full((1, 9000), value), 9000, 6000)
    assert sorted(chosen[0].tolist()) == list(range(6000))


@pytest.mark.parametrize("keep", [1, 3839, 3840, 3841, 6000, 7680, 7681, 12000])
def test_top_k_in_pieces_equals_one_topk(keep):
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([torch.randperm(12000, generator=generator).float() for _ in range(2)])
    expected = torch.topk(values, keep, dim=1)
    actual = top_k(values, keep)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_pieces_stay_within_tensorrts_limit(monkeypatch):
    pieces = []
    topk = torch.topk

    def note(values, keep, dim):
        pieces.append(keep)
        return topk(values, keep, dim=dim)

    monkeypatch.setattr(torch, "topk", note)
    highest(torch.rand(1, 20000), 20000, 9000)
    assert max(pieces) <= TENSORRT_TOPK_LIMIT == 3840
    assert sum(pieces) == 2 * 9000


def test_more_scores_than_float32_can_number_are_refused():
    with pytest.raises(ValueError, match="too many"):
        highest(torch.zeros(1, 1), 2**23, 1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rows_are_gathered_per_image(batch, dtype):
    table = torch.rand(batch, 20, 4)
    rows = torch.randint(0, 20, (batch, 9), dtype=dtype)
    taken = take_rows(table, rows, batch)
    assert tuple(taken.shape) == (batch, 9, 4)
    for image in range(batch):
        for row in range(9):
            assert torch.equal(taken[image, row], table[image, int(rows[image, row])])
    assert torch.equal(take_rows(table, rows, None), taken)
    assert torch.equal(take_rows(table[..., 0], rows, None), taken[..., 0])
