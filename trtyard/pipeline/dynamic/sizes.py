"""Which sizes a dynamic model is compared at, and which one it is traced with."""

from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from trtyard.core.report import BETWEEN, MAX, MIN, OPT
from trtyard.pipeline.dynamic.dimensions import Dynamic, Range, Sizes, step_of

# Small, for a trace computes everything; and no size that constants of other meanings often have.
_TRACED = (3, 5, 7, 11, 13, 17, 19, 23)
_TRIED = 64  # further sizes, from the smallest on


class Size(NamedTuple):
    """One point in the ranges."""

    role: str  # MIN, OPT, MAX or BETWEEN
    sizes: Sizes
    multiples: Optional[Sizes] = None  # what to take instead if the model refuses these sizes


def compared_sizes(dynamic: Dynamic) -> List[Size]:
    """Return the sizes to compare, each once: the first profile's usual one comes first.

    For each profile: its min, opt and max, and two sizes in between. With several dimensions one of
    the two has the first dimension small and the second large, and the other one the reverse: so
    no two dimensions have the same size everywhere. A network that halves a picture five times may
    take multiples of 32 only. So sizes in between have others with the range's step beside them.
    """
    found: List[Size] = []
    for profile in dynamic.profiles:
        names = dynamic.names
        pairs = {name: between(profile[name], 1) for name in names}
        coarse = {name: between(profile[name], step_of([profile[name]])) for name in names}
        points = [
            Size(OPT, {name: profile[name].usual for name in names}),
            Size(MIN, {name: profile[name].least for name in names}),
            Size(MAX, {name: profile[name].most for name in names}),
        ]
        for turn in (0, 1):
            sizes, multiples = (
                {name: pair[name][(turn + at) % 2] for at, name in enumerate(names)}
                for pair in (pairs, coarse)
            )
            points.append(Size(BETWEEN, sizes, None if multiples == sizes else multiples))
        known = [each.sizes for each in found]
        for point in points:
            if point.sizes not in known:
                known.append(point.sizes)
                found.append(point)
    return found


def between(one: Range, step: int) -> Tuple[int, int]:
    """Return two sizes inside of a range, about a third and two thirds of the way.

    They are whole steps from the smallest size, and not the usual one. Where there is none of that
    kind, they are the limits.
    """
    first = one.least + step
    count = (one.most - one.least) // step - 1
    skipped = (one.usual - first) // step if one.least < one.usual < one.most else count
    left = count - (1 if skipped < count else 0)
    if left < 1:
        return one.least, one.most

    def at(index: int) -> int:
        return first + step * (index + (1 if index >= skipped else 0))

    return at(left // 3), at(2 * left // 3)


def traced_sizes(dynamic: Dynamic, shapes: Sequence[Sequence[int]]) -> Sizes:
    """Return the sizes for a trace: neither 1 nor, if possible, that of any other dimension.

    An exporter may take a size of 1, or one that two dimensions have, to be so always.

    Args:
        dynamic: the dimensions.
        shapes: of the inputs, at any size.
    """
    taken: Set[int] = {
        size
        for shape, axes in zip(shapes, dynamic.axes)
        for index, size in enumerate(shape)
        if index not in axes
    }
    sizes: Sizes = {}
    for name in dynamic.names:
        candidates = list(_candidates(dynamic, name))
        free = [size for size in candidates if size not in taken]
        sizes[name] = (free or candidates)[0]
        taken.add(sizes[name])
    return sizes


def _candidates(dynamic: Dynamic, name: str) -> Iterator[int]:
    least, most = dynamic.limits(name)
    step = dynamic.step(name)
    for factor in _TRACED:
        if least <= factor * step <= most:
            yield factor * step
    first = least if least > 1 else least + step
    yield from range(first, min(most, first + _TRIED * step) + 1, step)
