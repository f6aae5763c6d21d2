"""The grammar of --input: shapes, names, ranges and profiles."""

import pytest

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Range
from trtyard.pipeline.models.input_text import read_inputs


def ranges(text):
    (profile,) = read_inputs(text).profiles
    return profile


@pytest.mark.parametrize(
    ("text", "shape", "profile"),
    [
        ("1..16x3x224x224", (4, 3, 224, 224), {"batch": Range(1, 4, 16)}),
        ("1:2:16x3x224x224", (2, 3, 224, 224), {"batch": Range(1, 2, 16)}),
        ("1x1..128", (1, 16), {"input_dim1": Range(1, 16, 128)}),
        ("4x[s=16:32:64]", (4, 32), {"s": Range(16, 32, 64)}),
        ("x = [ n = 1..8 ]x3", (4, 3), {"n": Range(1, 4, 8)}),
        ("200..300", (256,), {"batch": Range(200, 256, 300)}),
        ("5..6", (5,), {"batch": Range(5, 5, 6)}),
        ("4..4x3", (4, 3), {}),
        ("[n=4]x3", (4, 3), {}),
    ],
)
def test_a_range_gives_the_shape_its_usual_size(text, shape, profile):
    asked = read_inputs(text)
    assert asked.inputs[0].shape == shape
    assert asked.profiles == (profile,)


def test_colons_of_sizes_and_of_types_do_not_mix():
    asked = read_inputs("1:4:16x8:int64:100,2x1:2:4:bool,8:uint8")
    assert [one.shape for one in asked.inputs] == [(4, 8), (2, 2), (8,)]
    assert [(one.kind, one.values) for one in asked.inputs] == [
        ("int64", 100),
        ("bool", None),
        ("uint8", None),
    ]


def test_equal_ranges_of_dimension_0_are_one_batch():
    asked = read_inputs("a=1..8x3,b=1..8x5,c=1..9x2,d=2x3")
    assert asked.axes == ({0: "batch"}, {0: "batch"}, {0: "c_dim0"}, {})
    assert asked.profiles == ({"batch": Range(1, 4, 8), "c_dim0": Range(1, 4, 9)},)


def test_a_label_joins_dimensions_anywhere():
    asked = read_inputs("ids=1..8x[s=1..128]:int64,mask=[s]x[s]:bool")
    assert asked.axes == ({0: "batch", 1: "s"}, {0: "s", 1: "s"})


def test_dimensions_take_the_names_that_a_model_has_for_them():
    names = ("batch", "channels", "height", "width")
    asked = read_inputs("1..2x3x64..128x[w=64..256]", names)
    assert asked.axes == ({0: "batch", 2: "height", 3: "w"},)


def test_profiles_differ_in_sizes_alone():
    asked = read_inputs("ids=1x[s=1..16]:int64:50;ids=8..16x4")
    assert asked.inputs[0].shape == (1, 4)
    assert asked.axes == ({0: "batch", 1: "s"},)
    assert asked.profiles == (
        {"batch": Range(1, 1, 1), "s": Range(1, 4, 16)},
        {"batch": Range(8, 16, 16), "s": Range(4, 4, 4)},
    )
    assert asked.inputs[0].largest == 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8..1x3", "8..1 has min 8 > max 1"),
        ("8:4:16x3", "min 8 > opt 4; the order is min:opt:max"),
        ("1:32:16x3", "opt 32 > max 16; the order is min:opt:max"),
        ("0..8x3", "starts at 0; a size is 1 or more"),
        ("0:1:8x3", "starts at 0; a size is 1 or more"),
        ("8x16:int64:1..100", "only sizes take ranges"),
        ("1x3;1x3x4", "has 2 dimensions and '1x3x4' has 3; profiles differ only in sizes"),
        ("1x3,2;1x3", "one profile has 2 inputs and another one 1"),
        ("1x3:bool;1x3:int64", "the type of an input is bool in the first profile and int64"),
        ("a=1x3;b=2x3", "the name of an input is a in the first profile and b"),
        ("a=1x3,2", "some inputs have a name and some have none"),
        ("a=1x3,a=2", "two inputs have the same name"),
        ("[n]x3", r"\[n\] has no range yet"),
        ("[n=1..8]x[n=1..9]", r"\[n\] has two ranges in one profile"),
        ("[n=1..8]x3;[m=1..9]x3", "one dimension is called n and m in two profiles"),
        ("1..8x[batch=1..9]", "the dimension batch has two ranges"),
        ("1..4..8x3", "is not a shape such as"),
        ("1:4x3", "is not a shape such as"),
        ("1...8x3", "is not a shape such as"),
        ("1..8x3;", "is not a shape such as"),
        ("[1..8]x3", "is not a shape such as"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_an_example(text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_inputs(text)
    assert caught.value.hint
