"""Inputs of one's own model by the names of forward's parameters."""

import pytest
import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.own_inputs import parse_inputs
from trtyard.pipeline.models.own_names import in_order_of_forward, require_free_names


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, ids, mask, bias=None):
        return ids * mask * self.scale


def test_named_inputs_come_in_the_order_of_forward():
    asked = parse_inputs("mask=1..8x3:bool,ids=1..8x[s=1..4]:int64")
    ordered = in_order_of_forward(Masked(), asked, "net.py:Masked")
    assert [one.name for one in ordered.inputs] == ["ids", "mask"]
    assert ordered.axes == ({0: "batch", 1: "s"}, {0: "batch"})


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_names_of_a_scripted_module_are_those_of_its_forward():
    scripted = torch.jit.trace(Masked(), (torch.ones(1), torch.ones(1)))
    asked = parse_inputs("mask=1,ids=2")
    ordered = in_order_of_forward(scripted, asked, "net.py:Masked")
    assert [one.shape for one in ordered.inputs] == [(2,), (1,)]


def test_inputs_without_names_stay():
    asked = parse_inputs("1x3,1x4")
    assert in_order_of_forward(Masked(), asked, "net.py:Masked") == asked


def test_a_name_that_forward_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(UsageError, match="has no input 'x'; it has: ids, mask, bias"):
        in_order_of_forward(Masked(), parse_inputs("x=1..8x3"), "net.py:Masked")


def test_a_parameter_that_is_left_out_in_between_is_named():
    with pytest.raises(UsageError, match="mask is missing") as caught:
        in_order_of_forward(Masked(), parse_inputs("ids=1,bias=1"), "net.py:Masked")
    assert "ids, mask" in caught.value.hint


def test_an_input_cannot_be_called_like_an_output_or_a_weight():
    with pytest.raises(UsageError, match="an output called 'y'"):
        require_free_names(["y"], ["y"], Masked(), "net.py:Masked")
    with pytest.raises(UsageError, match="a weight called 'scale'"):
        require_free_names(["scale"], ["y"], Masked(), "net.py:Masked")
    require_free_names(["ids"], ["y"], Masked(), "net.py:Masked")
