"""Pool one roi with two tables of its samples, for MaskRcnnROIAlign in ONNX.

The mean and the maximum are separable: first the bins of rows, then those of columns. A table has
only the samples that may be on the map, so any roi is pooled in bounded time.
"""

from typing import NamedTuple, Sequence

import numpy as np

from trtyard.pipeline.ops.onnx_body import Body

# Samples of an adaptive bin are more than half a cell apart. This many per cell and in total cover
# the map and float32's rounding.
_SAMPLES_A_CELL = 2
_SPARE_SAMPLES = 10

_UNTOUCHED = 2.0  # more than any weight


class Rois(NamedTuple):
    """The data of all rois. Of two numbers per roi, the first is for the x axis."""

    maps: str  # float32 [B, C, H, W]
    sizes: Sequence[str]  # int64 []: H and W
    bins: Sequence[str]  # int64 []: the output's height and width
    ratio: str  # float32 []: the samples per bin and axis; 0: by the roi's size
    start: str  # float32 [R, 2], in cells
    step: str  # float32 [R, 2]: the size of a bin
    samples: str  # float32 [R, 2]: of a bin
    image: str  # int64 [R]


class Table(NamedTuple):
    """A roi's samples along one axis: the weights of S cells in each of P bins."""

    mean: str  # float32 [P, S]: the sums of the cells' weights over the number of samples
    most: str  # float32 [P, S]: the largest weight of a cell, negative for a cell without a weight
    least: str  # float32 [P, S]: the smallest
    any_inside: str  # bool [P]
    all_inside: str  # bool [P]


def mean(body: Body, map_: str, down: Table, across: Table) -> str:
    """Return the bins' means [C, P, Q]: Wy * F * Wx^T."""
    rows = body.add("MatMul", down.mean, map_)  # [C, P, W]
    return body.add("MatMul", rows, body.add("Transpose", across.mean, perm=[1, 0]))


def largest(body: Body, map_: str, down: Table, across: Table) -> str:
    """Return the bins' largest terms [C, P, Q]; 0 for a bin without a sample on the map.

    No weight is negative, so the extreme weights of a cell give the extreme terms.
    """
    zero = body.constant(0, np.float32)

    def along(inner: Body, values: str, table: Table, axis: int, count: str) -> str:
        """Return [bins, ...]: the largest weighted ``values`` along an axis."""

        def one_bin(turn_body: Body, turn: str) -> str:
            def of_bin(name: str) -> str:
                own = turn_body.add("Gather", name, turn)
                return own if axis == 2 else turn_body.over("Unsqueeze", [1], own)

            most, least = of_bin(table.most), of_bin(table.least)
            terms = turn_body.add(
                "Max", turn_body.add("Mul", values, most), turn_body.add("Mul", values, least)
            )
            touched = turn_body.add("Greater", most, turn_body.constant(-0.5, np.float32))
            terms = turn_body.add("Where", touched, terms, turn_body.constant(-np.inf, np.float32))
            return turn_body.over("ReduceMax", [axis], terms, keepdims=0)

        return inner.for_each(count, 2, one_bin)

    def bins_of(table: Table) -> str:
        shape = body.add("Shape", table.any_inside)
        return body.add("Gather", shape, body.constant(0, np.int64))

    rows = along(body, map_, down, 1, bins_of(down))  # [P, C, W]
    both = along(body, rows, across, 2, bins_of(across))  # [Q, P, C]
    most = body.add("Transpose", both, perm=[2, 1, 0])

    def grid(of_rows: str, of_columns: str) -> str:
        return body.add("And", body.over("Unsqueeze", [1], of_rows), of_columns)

    most = body.add("Where", grid(down.any_inside, across.any_inside), most, zero)
    # Samples outside the map are zeros.
    with_zero = body.add("Max", most, zero)
    return body.add("Where", grid(down.all_inside, across.all_inside), most, with_zero)


def tables_of(body: Body, rois: Rois, at: str) -> Sequence[Table]:
    """Return the tables down and across of the roi with index ``at``, int64 [1]."""
    own = [body.add("Gather", each, at) for each in (rois.start, rois.step, rois.samples)]
    found = []
    for axis, (size, bins) in enumerate(zip(rois.sizes, rois.bins)):
        place = body.constant(1 - axis, np.int64)
        start, step, samples = (body.add("Gather", each, place, axis=1) for each in own)  # [1]
        found.append(_table(body, rois.ratio, size, bins, start, step, samples))
    return found


def _table(
    body: Body, ratio: str, size: str, bins: str, start: str, step: str, samples: str
) -> Table:
    zero, half, one = (body.constant(number, np.float32) for number in (0, 0.5, 1))
    two, minus_one = (body.constant(number, np.float32) for number in (2, -1))
    length = body.cast(size, np.float32)
    is_fixed = body.add("Greater", ratio, zero)

    # At most K samples of a bin: all, or those that may be on the map.
    on_map = body.add("Mul", length, body.constant(_SAMPLES_A_CELL, np.float32))
    on_map = body.add("Add", on_map, body.constant(_SPARE_SAMPLES, np.float32))
    most = body.cast(body.add("Where", is_fixed, ratio, on_map), np.int64)
    bin_of = body.over("Unsqueeze", [1], body.cast(body.count_to(bins), np.float32))
    origin = body.add("Add", start, body.add("Mul", bin_of, step))  # [P, 1]
    gap = body.add("Div", step, samples)
    first = body.add("Div", body.add("Sub", minus_one, origin), gap)
    first = body.add("Sub", body.add("Floor", body.add("Sub", first, half)), two)
    first = body.add("Where", is_fixed, zero, body.add("Max", first, zero))
    index = body.add("Add", first, body.cast(body.count_to(most), np.float32))  # [P, K]

    # Each operation as in samples.cuh: coordinates jump at the map's edges.
    steps = body.add("Mul", body.add("Add", index, half), step)
    place = body.add("Add", origin, body.add("Div", steps, samples))
    on_map = body.add("Not", body.add("Less", place, minus_one))
    on_map = body.add("And", on_map, body.add("Not", body.add("Greater", place, length)))
    inside = body.add("And", on_map, body.add("Less", index, samples))

    place = body.add("Max", place, zero)
    last = body.add("Sub", length, one)
    low = body.add("Min", body.add("Floor", place), last)
    high = body.add("Min", body.add("Add", low, one), last)
    fraction = body.add("Where", body.add("Less", low, last), body.add("Sub", place, low), zero)
    cells = body.cast(body.count_to(size), np.float32)

    def deep(value: str) -> str:
        return body.over("Unsqueeze", [2], value)  # [P, K, 1]

    is_low, is_high = (
        body.add("And", body.add("Equal", deep(each), cells), deep(inside)) for each in (low, high)
    )
    weight_low, weight_high = deep(body.add("Sub", one, fraction)), deep(fraction)

    def both(op: str, elsewhere: str) -> str:
        lower = body.add("Where", is_low, weight_low, elsewhere)
        return body.add(op, lower, body.add("Where", is_high, weight_high, elsewhere))

    count = body.over("ReduceSum", [1], body.cast(inside, np.float32), keepdims=0)  # [P]
    sums = body.over("ReduceSum", [1], both("Add", zero), keepdims=0)  # [P, S]
    untouched = body.constant(_UNTOUCHED, np.float32)
    return Table(
        mean=body.add("Div", sums, samples),
        most=body.over("ReduceMax", [1], both("Max", minus_one), keepdims=0),
        least=body.over("ReduceMin", [1], both("Min", untouched), keepdims=0),
        any_inside=body.add("Greater", count, zero),
        all_inside=body.add("Not", body.add("Less", count, samples)),
    )
