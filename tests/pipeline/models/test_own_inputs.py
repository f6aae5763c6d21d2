"""What --input can say of a model of one's own."""

import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.own_inputs import OwnInput, parse_inputs
from trtyard.pipeline.models.seeding import Seed


def test_shapes_and_types_are_read():
    assert parse_inputs("1x3x224x224, 1x10").inputs == [
        OwnInput((1, 3, 224, 224)),
        OwnInput((1, 10)),
    ]
    assert parse_inputs("7").inputs == [OwnInput((7,))]
    assert parse_inputs("1x16:int64:30522,2:int32,3:bool,4:float32").inputs == [
        OwnInput((1, 16), torch.int64, 30522),
        OwnInput((2,), torch.int32, 2),
        OwnInput((3,), torch.bool, 2),
        OwnInput((4,), is_typed=True),
    ]


@pytest.mark.parametrize(
    "text", ["", "1x", "x1", "1x-3", "1,", "axb", "1x3.5", "1*3", "1x3:", "1x3:9:int64", "(1, 3)"]
)
def test_invalid_shape_is_refused(text):
    with pytest.raises(UsageError, match="is not a shape such as"):
        parse_inputs(text)


@pytest.mark.parametrize("text", ["1x0", "0", "100000x100000", "3:int64:0", "3:int64:99999999"])
def test_missing_or_extra_inputs_are_refused(text):
    with pytest.raises(UsageError, match="the limits are 1 and"):
        parse_inputs(text)


@pytest.mark.parametrize("text", ["-1x3x8x8", "Nx3x8x8", "?x3", "1x3xHxW", "batchx3", "*x3"])
def test_open_size_gets_a_range_as_hint(text):
    with pytest.raises(UsageError) as caught:
        parse_inputs(text)
    assert "give the range of a size that varies" in caught.value.hint
    assert "1..16x3x224x224" in caught.value.hint


def test_range_gives_the_input_its_usual_shape():
    asked = parse_inputs("ids=1..8x[s=1:20:128]:int64:50")
    assert asked.inputs == [OwnInput((4, 20), torch.int64, 50, name="ids")]
    assert asked.axes == ({0: "batch", 1: "s"},)
    assert asked.vary
    assert not parse_inputs("1x3,5:bool").vary


def test_a_range_whose_largest_size_is_too_much_is_refused():
    with pytest.raises(UsageError, match="the limits are 1 and"):
        parse_inputs("1..100000x100000")


def test_other_types_are_refused():
    with pytest.raises(UsageError, match="type int8 is not supported; use float32, int64"):
        parse_inputs("3:int8")
    with pytest.raises(UsageError, match="only integer types have a number of values"):
        parse_inputs("3:bool:2")


def test_random_values_follow_the_options():
    seed = Seed(0)
    numbers = OwnInput((1000,), torch.int32, 7).draw(seed)
    assert numbers.dtype == torch.int32
    assert sorted(set(numbers.tolist())) == list(range(7))
    flags = OwnInput((1000,), torch.bool).draw(seed)
    assert flags.dtype == torch.bool
    assert 400 < int(flags.sum()) < 600
    reals = OwnInput((1000,)).draw(seed)
    assert reals.dtype == torch.float32
    assert abs(float(reals.std()) - 1) < 0.1
