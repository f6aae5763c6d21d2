"""Dimensions whose size varies, and the range of each in every optimization profile."""

import math
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

Shape = Tuple[int, ...]
Sizes = Dict[str, int]  # by the dimension's name
Axes = Tuple[Dict[int, str], ...]  # for each input the names of its dynamic dimensions, by index


class Range(NamedTuple):
    """The sizes of one dimension in one profile; TensorRT calls them min, opt and max."""

    least: int
    usual: int
    most: int

    @property
    def is_fixed(self) -> bool:
        """Whether there is just one size."""
        return self.least == self.most


Profile = Dict[str, Range]  # by the dimension's name


class Dynamic(NamedTuple):
    """How a model's inputs vary."""

    axes: Axes
    profiles: Tuple[Profile, ...]  # each has every name
    draw: Callable[[Sizes, int], Tuple[Any, ...]]  # the input tensors at these sizes, for a seed

    @property
    def names(self) -> List[str]:
        """The dimensions' names, in the order of the inputs."""
        return names_in(self.axes)

    def limits(self, name: str) -> Tuple[int, int]:
        """Return the smallest and the largest size of a dimension in any profile."""
        ranges = [profile[name] for profile in self.profiles]
        return min(each.least for each in ranges), max(each.most for each in ranges)

    def step(self, name: str) -> int:
        """Return the number of which every size of a dimension is taken to be a multiple.

        It is the greatest common divisor of what the user gave: a network that halves a picture
        five times is given ranges of multiples of 32, and fails at other sizes.
        """
        return step_of([profile[name] for profile in self.profiles])


def names_in(axes: Axes) -> List[str]:
    """Return every name once, in the order of the inputs."""
    return list(dict.fromkeys(name for each in axes for _index, name in sorted(each.items())))


def step_of(ranges: Sequence[Range]) -> int:
    """Return the greatest common divisor of all sizes in the ranges."""
    found = 0
    for each in ranges:
        for size in each:
            found = math.gcd(found, size)
    return found


def usual_size(least: int, most: int) -> int:
    """Return the power of two nearest to the geometric mean of both, within them."""
    exponent = math.floor((math.log2(least) + math.log2(most)) / 2 + 0.5)
    return int(min(max(1 << exponent, least), most))


def shape_at(shape: Sequence[int], axes: Mapping[int, str], sizes: Mapping[str, int]) -> Shape:
    """Return a shape with the sizes of its dynamic dimensions put in."""
    return tuple(sizes[axes[index]] if index in axes else size for index, size in enumerate(shape))
