"""MaskRcnnROIAlign in standard ops of any opset from 11 on, as nodes or as a function's body.

If ONNX Runtime has a RoiAlign at the opset, one RoiAlign pools all usual rois. It computes every
sample of a roi, on the map or not, so rois much larger than the map are pooled one by one with
tables (``onnx_tables``). Without a RoiAlign, all rois are pooled with tables.
"""

from typing import Callable, Sequence

import numpy as np
import onnx

from trtyard.pipeline.ops.onnx_body import Attributes, Body
from trtyard.pipeline.ops.roi_align_op.onnx_tables import Rois, largest, mean, tables_of

# As in reference.py, which has the reason.
FARTHEST = float(1 << 20)
SPARE_CELLS = 64

# ONNX Runtime on the CPU supports RoiAlign at these opsets. Half pixels came with 16.
ROI_ALIGN_OPSETS = range(11, 22)
HALF_PIXEL_OPSET = 16
_TRANSFORMATION = "coordinate_transformation_mode"


def roi_align(
    body: Body, inputs: Sequence[str], attributes: Attributes, like_features: bool
) -> str:
    """Add the nodes of MaskRcnnROIAlign and return their output.

    Args:
        body: gets the nodes, at opset 11 or newer.
        inputs: features, rois and batch_indices.
        attributes: of the custom node.
        like_features: return the features' type, from opset 15 on; otherwise float32.
    """
    features = inputs[0]
    # Of any type, like the torch op's.
    rois, batch_indices = body.cast(inputs[1], np.float32), body.cast(inputs[2], np.int32)
    shape = body.add("Shape", features)
    batch, channels, *sizes = (
        body.add("Gather", shape, body.constant(axis, np.int64)) for axis in range(4)
    )
    bins = [attributes.number(body, name, np.int64) for name in ("output_height", "output_width")]
    ratio = attributes.number(body, "sampling_ratio", np.float32)
    aligned = attributes.number(body, "aligned", np.bool_)
    zero, zero_int = body.constant(0, np.float32), body.constant(0, np.int32)

    cells = body.add("Mul", rois, attributes.number(body, "spatial_scale", np.float32))
    near = body.add("Less", body.add("Abs", cells), body.constant(FARTHEST, np.float32))
    alive = _all_of(body, near, 4)  # false for NaN
    is_there = body.add("Less", batch_indices, body.cast(batch, np.int32))
    is_below = body.add("Less", batch_indices, zero_int)
    alive = body.add("And", alive, body.add("And", is_there, body.add("Not", is_below)))
    for size in sizes:
        alive = body.add("And", alive, body.add("Greater", size, body.constant(0, np.int64)))

    half, one = body.constant(0.5, np.float32), body.constant(1, np.float32)
    shifted = body.add("Sub", cells, body.add("Where", aligned, half, zero))
    start, end = (_columns(body, shifted, first) for first in (0, 2))
    smallest = body.add("Where", aligned, body.constant(-np.inf, np.float32), one)
    length = body.add("Max", body.add("Sub", end, start), smallest)
    step = body.add("Div", length, _pair(body, bins[1], bins[0]))
    by_size = body.add("Max", body.add("Ceil", step), zero)
    is_fixed = body.add("Greater", ratio, zero)
    samples = body.add("Where", is_fixed, ratio, by_size)
    # An inverted roi may have no samples.
    alive = body.add("And", alive, _all_of(body, body.add("Greater", samples, zero), 2))

    image = body.add("Where", alive, batch_indices, zero_int)
    all_rois = Rois(
        maps=body.cast(features, np.float32),
        sizes=sizes,
        bins=bins,
        ratio=ratio,
        start=start,
        step=step,
        samples=samples,
        image=body.cast(image, np.int64),
    )
    has_op = body.opset in ROI_ALIGN_OPSETS and (
        body.opset >= HALF_PIXEL_OPSET or attributes.known("aligned") == 0
    )
    one_each = _in_list(body, channels), *(_in_list(body, each) for each in bins)
    out_shape = body.add("Concat", body.add("Shape", batch_indices), *one_each, axis=0)

    def filled_with(number: str) -> Callable[[Body], str]:
        return lambda inner: inner.add("Expand", number, out_shape)

    if not has_op:
        count = _count(body, alive)
        pooled = body.choice(
            body.add("Greater", count, zero),
            4,
            lambda inner: _apart(inner, all_rois, alive, filled_with(zero)(inner), attributes),
            filled_with(count),
        )
        return body.add("CastLike", pooled, features) if like_features else pooled

    apart = body.add("And", alive, _larger_than_map(body, all_rois, length, is_fixed))
    usual = body.add("And", alive, body.add("Not", apart))
    count = _count(body, usual)
    # If no roi is apart, the count serves as the zero: ONNX Runtime 1.1 does not return a value
    # that it folded to a constant in a branch.
    raw = body.choice(
        body.add("Greater", count, zero),
        4,
        lambda inner: _usual(inner, all_rois, rois, usual, attributes),
        filled_with(count),
    )

    def without_others(inner: Body) -> str:
        return inner.add("Where", inner.over("Unsqueeze", [1, 2, 3], usual), raw, zero)

    pooled = body.choice(
        body.add("Greater", _count(body, apart), zero),
        4,
        lambda inner: _apart(inner, all_rois, apart, without_others(inner), attributes),
        without_others,
    )
    return body.add("CastLike", pooled, features) if like_features else pooled


def _usual(body: Body, rois: Rois, corners: str, usual: str, attributes: Attributes) -> str:
    """Return RoiAlign's result for the usual rois, and arbitrary values for the others."""
    nowhere = body.constant(0, np.float32)  # a small roi at any scale
    given = body.add("Where", body.over("Unsqueeze", [1], usual), corners, nowhere)

    def pool(inner: Body, maximum: bool, aligned: bool) -> str:
        name = inner.add("RoiAlign", rois.maps, given, rois.image, mode="max" if maximum else "avg")
        node = inner.nodes[-1]
        sizes = ("output_height", "output_width")
        attributes.given_to(node, (*sizes, "spatial_scale", "sampling_ratio"))
        if inner.opset >= HALF_PIXEL_OPSET:
            form = b"half_pixel" if aligned else b"output_half_pixel"
            node.attribute.add(name=_TRANSFORMATION, type=onnx.AttributeProto.STRING, s=form)
        return name

    def by_mode(inner: Body, aligned: bool) -> str:
        return _by(
            inner,
            attributes,
            "mode",
            4,
            lambda last: pool(last, True, aligned),
            lambda last: pool(last, False, aligned),
        )

    return _by(
        body,
        attributes,
        "aligned",
        4,
        lambda inner: by_mode(inner, True),
        lambda inner: by_mode(inner, False),
    )


def _apart(body: Body, rois: Rois, apart: str, before: str, attributes: Attributes) -> str:
    """Return ``before`` with the chosen rois pooled one by one."""
    chosen = body.add("Transpose", body.add("NonZero", apart), perm=[1, 0])  # [n, 1]
    count = body.add("Gather", body.add("Shape", chosen), body.constant(0, np.int64))

    def one_roi(inner: Body, turn: str) -> str:
        at = inner.add("Gather", chosen, turn)  # [1]
        own = inner.over("Squeeze", [0], inner.add("Gather", rois.image, at))
        map_ = inner.add("Gather", rois.maps, own)  # [C, H, W]
        return _by(
            inner,
            attributes,
            "mode",
            3,
            lambda last: largest(last, map_, *tables_of(last, rois, at)),
            lambda last: mean(last, map_, *tables_of(last, rois, at)),
        )

    return body.add("ScatterND", before, chosen, body.for_each(count, 3, one_roi))


def _larger_than_map(body: Body, rois: Rois, length: str, is_fixed: str) -> str:
    """Return which rois have many more samples than the map has cells, bool [R]."""
    sizes = _pair(body, rois.sizes[1], rois.sizes[0])
    most = body.add("Mul", sizes, body.constant(2, np.float32))
    most = body.add("Add", most, body.constant(SPARE_CELLS, np.float32))
    fits = _all_of(body, body.add("Not", body.add("Greater", length, most)), 2)
    return body.add("Not", body.add("Or", fits, is_fixed))


def _by(
    body: Body,
    attributes: Attributes,
    name: str,
    rank: int,
    first: Callable[[Body], str],
    second: Callable[[Body], str],
) -> str:
    """Return the result of ``first`` if the attribute is 1, else of ``second``."""
    known = attributes.known(name)
    if known is not None:
        return (first if known else second)(body)
    return body.choice(attributes.number(body, name, np.bool_), rank, first, second)


def _all_of(body: Body, flags: str, count: int) -> str:
    """Return whether all flags of each row [R, count] are true, bool [R]."""
    first, *others = (
        body.add("Gather", flags, body.constant(column, np.int64), axis=1)
        for column in range(count)
    )
    for other in others:
        first = body.add("And", first, other)
    return first


def _count(body: Body, flags: str) -> str:
    """Return how many of the flags [R] are true, float32 []."""
    # ONNX Runtime 1.1 cannot sum empty rows, and R may be 0.
    one_more = body.constant([0], np.float32)
    held = body.add("Concat", body.cast(flags, np.float32), one_more, axis=0)
    return body.over("ReduceSum", [0], held, keepdims=0)


def _columns(body: Body, value: str, first: int) -> str:
    """Return two columns of [R, 4]."""
    begin, end, axis = (body.constant([number], np.int64) for number in (first, first + 2, 1))
    return body.add("Slice", value, begin, end, axis)


def _pair(body: Body, first: str, second: str) -> str:
    """Return two int64 numbers as float32 [2]."""
    both = body.add("Concat", _in_list(body, first), _in_list(body, second), axis=0)
    return body.cast(both, np.float32)


def _in_list(body: Body, number: str) -> str:
    return body.over("Unsqueeze", [0], number)
