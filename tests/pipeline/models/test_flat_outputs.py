"""A module's outputs, in containers of any kind, as tensors with names."""

import collections

import pytest
import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.flat_outputs import with_named_outputs

A, B, C = (torch.full((2,), float(number)) for number in range(3))
Pair = collections.namedtuple("Pair", "first second")


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("value", "names", "tensors"),
    [
        (A, ["output"], [A]),
        ((A,), ["output"], [A]),
        ([A, B], ["output_0", "output_1"], [A, B]),
        ({"out": A, "aux": B}, ["out", "aux"], [A, B]),
        (collections.OrderedDict(out=A), ["out"], [A]),
        ([{"boxes": A, "scores": B}], ["boxes", "scores"], [A, B]),
        ([{"boxes": A}, {"boxes": B}], ["output_0_boxes", "output_1_boxes"], [A, B]),
        ((A, [B, C]), ["output_0", "output_1_0", "output_1_1"], [A, B, C]),
        ({"levels": [A, B], "top": C}, ["levels_0", "levels_1", "top"], [A, B, C]),
        (Pair(A, B), ["first", "second"], [A, B]),
        ((A, None), ["output_0"], [A]),
        ({"a b/c:d": A, 3: B, "": C}, ["a_b_c_d", "output_3", "output"], [A, B, C]),
        ({"module.weight": A}, ["module.weight"], [A]),
    ],
)
def test_outputs_are_named_by_their_path(value, names, tensors):
    found, module = with_named_outputs(Returns(value), value, "net.py:make")
    assert list(found) == names
    outputs = module(A)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    assert [id(each) for each in outputs] == [id(each) for each in tensors]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((), "returns .tuple."),
        (None, "returns .NoneType."),
        ({"boxes": A, "name": "cat"}, "returns .Tensor, str."),
        ([{"boxes": A, "count": 3}], "returns .Tensor, int."),
        ({"a_b": A, "a": {"b": B}}, "returns two outputs called a_b"),
    ],
)
def test_non_tensor_output_is_refused(value, words):
    with pytest.raises(UsageError, match=rf"net\.py:make {words}"):
        with_named_outputs(Returns(value), value, "net.py:make")


def test_training_mode_is_unchanged():
    module = Returns({"out": A}).eval()
    _, flat = with_named_outputs(module, module(A), "net.py:make")
    assert not flat.training


def test_weight_named_like_an_output_is_renamed():
    module = Returns(A)
    module.output = nn.Parameter(A)
    names, flat = with_named_outputs(module, A, "net.py:make")
    assert names == ("output",)
    assert list(flat.state_dict()) == ["module.output"]
    assert flat(B)[0] is A
