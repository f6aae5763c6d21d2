"""Runs that leave neither their inputs nor the module's buffers changed."""

import pytest
import torch
from torch import nn

from trtyard.pipeline.models.one_run import buffers_kept, run_once


class InPlace(nn.Module):
    def forward(self, x):
        return x.add_(1)


class Counter(nn.Module):
    def __init__(self, assigned):
        super().__init__()
        self.assigned = assigned
        self.register_buffer("runs", torch.zeros(2))
        self.register_buffer("still", torch.full((1,), float("nan")))
        self.register_buffer("none", None)

    def forward(self, x):
        if self.assigned:
            self.runs = self.runs + 1
        else:
            self.runs += 1
        return x * self.runs


def test_in_place_change_does_not_alter_the_input():
    x = torch.zeros(3)
    assert run_once(InPlace(), [x]).tolist() == [1, 1, 1]
    assert x.tolist() == [0, 0, 0]


@pytest.mark.parametrize("assigned", [True, False])
def test_buffers_are_restored_and_changes_named(assigned):
    module = nn.Sequential(Counter(assigned))
    before = module[0].runs
    for _ in range(2):
        with buffers_kept(module) as changed:
            assert module(torch.ones(2)).tolist() == [1, 1]
        assert changed == ["0.runs"]
        assert module[0].runs is before
        assert before.tolist() == [0, 0]


def test_buffers_are_put_back_when_the_run_fails():
    module = Counter(False)

    def fail():
        with buffers_kept(module):
            module.runs += 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert module.runs.tolist() == [0, 0]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_modules_buffers_are_put_back_too():
    module = torch.jit.script(nn.Sequential(nn.BatchNorm1d(2))).train()
    with buffers_kept(module) as changed:
        module(torch.rand(4, 2) + 3)
    assert changed == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    assert module.state_dict()["0.running_mean"].tolist() == [0, 0]
