"""Inputs of one's own model by the names of forward's parameters."""

import sys
import typing

import onnxruntime
import pytest
import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models import own
from trtyard.pipeline.models.own_inputs import parse_inputs
from trtyard.pipeline.models.own_names import (
    in_order_of_forward,
    require_free_names,
    taking_inputs,
)
from trtyard.pipeline.models.weights import Choice

Maybe = typing.Optional[torch.Tensor]  # noqa: UP045 - Python 3.6


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


def test_unknown_name_is_refused_with_the_known_ones():
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


class Skipping(nn.Module):
    """Inputs that may be left out, one of them keyword-only."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x, mask=None, scale=None, *, bias=None):
        x = self.layer(x)
        if mask is not None:
            x = x * mask
        if scale is not None:
            x = x - 2 * scale
        return x if bias is None else {"sum": x + 5 * bias}


class ByPosition(nn.Module):
    def __init__(self):
        super().__init__()
        code = "def forward(x, y=None, /, z=None): return x"
        space = {}
        exec(code, space)  # noqa: S102 - Python 3.6 cannot parse it
        self.forward = space["forward"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x=1x3", ["x"]),
        ("mask=1x3,x=1x3", ["x", "mask"]),
        ("scale=1x3,x=1x3", ["x", "scale"]),
        ("bias=1x3,x=1x3", ["x", "bias"]),
        ("bias=1x3,mask=1x3,x=1x3", ["x", "mask", "bias"]),
    ],
)
def test_each_name_is_bound_to_the_parameter_of_that_name(text, names):
    module = Skipping().eval()
    asked = in_order_of_forward(module, parse_inputs(text), "net.py:Skipping")
    assert [one.name for one in asked.inputs] == names
    taking = taking_inputs(module, names)
    assert not taking.training
    values = [torch.rand(1, 3) for _ in names]
    found, wanted = taking(*values), module(**dict(zip(names, values)))
    if "bias" in names:
        found, wanted = found["sum"], wanted["sum"]
    assert torch.equal(found, wanted)


def test_first_parameters_need_no_wrapper():
    module = Skipping()
    for names in ((), ("",), ("x",), ("x", "mask"), ("x", "mask", "scale")):
        assert taking_inputs(module, names) is module


def test_a_needed_parameter_cannot_be_left_out():
    with pytest.raises(UsageError, match=r"x is missing, and forward\(\) of net.py:N needs it"):
        in_order_of_forward(Skipping(), parse_inputs("bias=1x3"), "net.py:N")
    with pytest.raises(UsageError, match="ids, mask are missing") as caught:
        in_order_of_forward(Masked(), parse_inputs("bias=1"), "net.py:N")
    assert "give ids, mask, bias" in caught.value.hint


@pytest.mark.skipif(sys.version_info < (3, 8), reason="has no positional-only parameters")
def test_positional_only_parameter_needs_those_before_it():
    module = ByPosition()
    asked = parse_inputs("x=1,y=1,z=1")
    assert in_order_of_forward(module, asked, "net.py:N") == asked
    with pytest.raises(UsageError, match="takes x by position only, so y cannot") as caught:
        in_order_of_forward(module, parse_inputs("x=1,z=1"), "net.py:N")
    assert caught.value.hint == "give x, y, z"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_may_leave_out_optional_parameters():
    class Scripted(nn.Module):
        def forward(self, x: torch.Tensor, scale: float = 2.0, y: Maybe = None):
            return x * scale if y is None else x * scale + y

    scripted = torch.jit.script(Scripted())
    asked = in_order_of_forward(scripted, parse_inputs("y=3,x=3"), "net.py:N")
    assert [one.name for one in asked.inputs] == ["x", "y"]
    taking = taking_inputs(scripted, ["x", "y"])
    assert torch.equal(taking(torch.ones(3), torch.ones(3)), torch.full((3,), 3.0))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_left_out_parameters_export(exporter, monkeypatch, tmp_path):
    monkeypatch.setattr(own, "find_callable", lambda _: Skipping())
    model = own.load_own("net.py:ready", Choice(None, 0), "bias=2x3,x=2x3,scale=2x3")
    assert model.input_names == ("x", "scale", "bias")
    assert model.output_names == ("sum",)
    file = tmp_path / "model.onnx"
    names = (model.input_names, model.output_names)
    export_onnx(
        model.module, model.inputs, *names, exporter, 17 if exporter != "dynamo" else 18, file
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["x", "scale", "bias"]
    values = {name: value.numpy() for name, value in zip(model.input_names, model.inputs)}
    (found,) = session.run(None, values)
    (wanted,) = model.module(*model.inputs)
    torch.testing.assert_close(torch.from_numpy(found), wanted)
