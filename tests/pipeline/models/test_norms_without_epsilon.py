"""Norms without an epsilon: torch 2.11 refuses to compute them with 0."""

import pytest
import torch
from torch import nn

from trtyard.pipeline.models.faster_rcnn.resnet import FrozenBatchNorm
from trtyard.pipeline.models.norm_epsilon import Epsilon, set_epsilon
from trtyard.pipeline.models.not_numbers import bad_variances

CHANNELS = 64
batch_norm = torch.nn.functional.batch_norm


@pytest.fixture
def like_torch_2_11(monkeypatch):
    def refusing(*arguments, **named):
        epsilon = named.get("eps", arguments[7] if len(arguments) > 7 else 1e-5)
        if epsilon <= 0:
            raise ValueError(f"batch_norm eps must be positive, but got {epsilon}")
        return batch_norm(*arguments, **named)

    monkeypatch.setattr(torch.nn.functional, "batch_norm", refusing)


def with_statistics(norm):
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(CHANNELS, generator=draw))
        norm.bias.copy_(torch.randn(CHANNELS, generator=draw))
        norm.running_mean.copy_(torch.randn(CHANNELS, generator=draw))
        norm.running_var.copy_(10 ** (-12 * torch.rand(CHANNELS, generator=draw)))
    return norm.eval()


def without_epsilon():
    holder = nn.Sequential(nn.BatchNorm2d(CHANNELS))
    set_epsilon(holder, Epsilon(0.0, False, None))
    return holder[0]


@pytest.mark.parametrize("make", [lambda: FrozenBatchNorm(CHANNELS), without_epsilon])
@pytest.mark.usefixtures("like_torch_2_11")
def test_norms_compute_as_with_an_epsilon_of_0(make):
    norm = with_statistics(make())
    x = torch.randn(2, CHANNELS, 9, 7, generator=torch.Generator().manual_seed(1))
    statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    expected = batch_norm(x, *statistics, False, 0.0, 0.0)
    assert torch.equal(norm(x), expected)


@pytest.mark.parametrize("make", [lambda: FrozenBatchNorm(CHANNELS), without_epsilon])
def test_a_variance_of_0_without_epsilon_is_bad(make):
    norm = with_statistics(make())
    assert bad_variances(norm) == []
    norm.running_var[3] = 0
    (line,) = bad_variances(norm)
    assert "1 of 64 are 0 or below" in line
    assert "epsilon 0)" in line
