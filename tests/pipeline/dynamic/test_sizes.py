"""The sizes that a dynamic model is compared at and traced with."""

import pytest

from trtyard.pipeline.dynamic.dimensions import Dynamic, Range, shape_at, usual_size
from trtyard.pipeline.dynamic.sizes import between, compared_sizes, traced_sizes


def dynamic(*axes, **ranges):
    profiles = [dict(zip(ranges, one)) for one in zip(*ranges.values())]
    return Dynamic(axes, tuple(profiles), lambda sizes, seed: ())


@pytest.mark.parametrize(
    ("least", "most", "usual"),
    [(1, 16, 4), (1, 8, 4), (1, 2, 2), (256, 1024, 512), (5, 6, 5), (200, 300, 256), (7, 7, 7)],
)
def test_usual_size_is_near_the_geometric_mean(least, most, usual):
    assert usual_size(least, most) == usual


@pytest.mark.parametrize(
    ("one", "step", "expected"),
    [
        (Range(1, 4, 16), 1, (7, 11)),
        (Range(1, 1, 16), 1, (6, 11)),
        (Range(1, 16, 16), 1, (6, 11)),
        (Range(1, 2, 3), 1, (1, 3)),
        (Range(1, 2, 4), 1, (3, 3)),
        (Range(1, 2, 2), 1, (1, 2)),
        (Range(8, 16, 16), 1, (11, 13)),
        (Range(224, 320, 512), 32, (352, 416)),
        (Range(224, 320, 512), 1, (320 + 1, 416)),
        (Range(256, 512, 1024), 256, (768, 768)),
        (Range(8, 8, 8), 8, (8, 8)),
    ],
)
def test_sizes_in_between_are_inside_and_of_the_step(one, step, expected):
    assert between(one, step) == expected


def test_sizes_in_between_have_multiples():
    one = dynamic({0: "batch", 2: "height"}, batch=[Range(1, 1, 2)], height=[Range(224, 320, 512)])
    found = [each for each in compared_sizes(one) if each.role == "between"]
    assert [each.sizes["height"] for each in found] == [416, 321]
    assert [each.multiples for each in found] == [None, {"batch": 2, "height": 352}]
    plain = dynamic({0: "batch"}, batch=[Range(1, 4, 16)])
    assert {each.multiples for each in compared_sizes(plain)} == {None}


def test_each_profile_is_compared_at_five_sizes():
    one = dynamic(
        {0: "batch", 1: "s"},
        batch=[Range(1, 4, 8), Range(16, 16, 16)],
        s=[Range(1, 16, 128), Range(1, 16, 16)],
    )
    found = compared_sizes(one)
    assert found[0][:2] == ("opt", {"batch": 4, "s": 16})
    assert found[1][:2] == ("min", {"batch": 1, "s": 1})
    assert found[2][:2] == ("max", {"batch": 8, "s": 128})
    first, second = (each.sizes for each in found[3:5])
    # The one has a small batch and long sentences, the other one the reverse.
    assert first["batch"] < second["batch"]
    assert first["s"] > second["s"]
    assert {each.sizes["batch"] for each in found[5:]} == {16}
    points = [tuple(each.sizes.items()) for each in found]
    assert len(points) == len(set(points))


def test_the_trace_has_sizes_that_no_other_dimension_has():
    batch = dynamic({0: "batch"}, batch=[Range(1, 4, 16)])
    assert traced_sizes(batch, [(4, 3, 224, 224)]) == {"batch": 5}
    two = dynamic({0: "batch", 1: "s"}, batch=[Range(1, 4, 8)], s=[Range(1, 16, 128)])
    assert traced_sizes(two, [(4, 16)]) == {"batch": 3, "s": 5}
    steps = dynamic({2: "height"}, height=[Range(224, 320, 512)])
    assert traced_sizes(steps, [(1, 3, 320, 224)]) == {"height": 352}


def test_trace_never_has_a_size_of_one():
    assert traced_sizes(dynamic({0: "n"}, n=[Range(1, 1, 2)]), [(1, 2)]) == {"n": 2}
    assert traced_sizes(dynamic({0: "n"}, n=[Range(60, 64, 100)]), [(64, 60)]) == {"n": 68}
    two = dynamic({0: "n"}, n=[Range(1, 1, 1), Range(8, 8, 8)])
    assert traced_sizes(two, [(1, 3)]) == {"n": 5}


def test_a_shape_takes_the_sizes_of_its_dimensions():
    assert shape_at((4, 3, 16), {0: "batch", 2: "s"}, {"batch": 2, "s": 7}) == (2, 3, 7)
