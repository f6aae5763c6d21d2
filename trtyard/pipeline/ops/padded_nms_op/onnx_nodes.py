"""PaddedNMS in standard ops of opset 11, which ONNX Runtime 1.1 runs instead.

The function in ``function.onnxtxt`` is the same in ops of opset 16. Older onnx has neither
functions nor a parser for them. Here the node's attributes are known numbers.
"""

from typing import NamedTuple, Sequence

import numpy as np
from onnx import TensorProto, helper

from trtyard.pipeline.ops.onnx_body import Attributes, Body

_PADDING = -1
_NO_CLASS = -1


def add_nodes(
    body: Body, inputs: Sequence[str], outputs: Sequence[str], attributes: Attributes
) -> None:
    """Add the nodes of PaddedNMS with fixed attribute values."""
    boxes, scores = (body.cast(each, np.float32) for each in inputs)
    rows = attributes.known("keep_top_k")
    nothing = body.constant(-np.inf, np.float32)
    limit = body.constant(attributes.known("score_threshold"), np.float32)
    taking_part = body.add("Greater", scores, limit)
    live = _in_one_row(body, body.add("Where", taking_part, scores, nothing), nothing)
    pairs = _pairs(body, boxes, taking_part, attributes)
    kept = _kept_by_turn(body, pairs, live, nothing, attributes)

    zero_1d, one_1d, rows_1d = (body.constant([number], np.int64) for number in (0, 1, rows))
    padding = body.constant(_PADDING, np.int64)
    batch = body.add("Slice", body.add("Shape", scores), zero_1d, one_1d)
    shape = body.add("Concat", batch, rows_1d, axis=0)
    by_image = body.add("Transpose", kept, perm=[1, 0])
    filled = body.add("Concat", by_image, body.add("Expand", padding, shape), axis=1)
    padded = body.add("Slice", filled, zero_1d, rows_1d, one_1d)
    body.add("Cast", padded, output=outputs[0], to=TensorProto.INT32)
    if rows == 0:  # ONNX Runtime 1.1 cannot sum empty rows
        body.add("Expand", body.constant(0, np.int32), batch, output=outputs[1])
        return
    is_kept = body.add("Cast", body.add("Greater", padded, padding), to=TensorProto.INT32)
    body.add("ReduceSum", is_kept, output=outputs[1], axes=[1], keepdims=0)


class _Pairs(NamedTuple):
    """The (class, box) pairs, with all pairs of an image in one row of L = C * N + 1."""

    x1: str  # float32 [B, L], like all but the last two
    y1: str
    x2: str
    y2: str
    area: str
    class_of: str
    position: str  # int64 [L]
    offset: str  # float32 []


def _in_one_row(body: Body, values: str, last: str) -> str:
    """Return [B, C, N] as [B, C * N + 1]; the last column avoids an empty tensor."""
    one_more = body.constant([0, 0, 0, 1], np.int64)
    return body.add("Pad", body.add("Flatten", values, axis=1), one_more, last)


def _pairs(body: Body, boxes: str, like: str, attributes: Attributes) -> _Pairs:
    """Return the mask of the pairs; ``like`` is any bool [B, C, N]."""
    shape = body.add("Shape", like)
    zero, one = body.constant(0, np.int64), body.constant(1, np.int64)
    no_corner, no_class = body.constant(0, np.float32), body.constant(_NO_CLASS, np.float32)

    def of_all(values: str) -> str:
        # Not Expand, which returns one class if there are none.
        return body.add("Where", like, values, values)

    def corner(at: int) -> str:
        values = body.add("Gather", boxes, body.constant(at, np.int64), axis=3)
        return _in_one_row(body, of_all(values), no_corner)

    x1, y1, x2, y2 = (corner(at) for at in range(4))
    offset = body.constant(attributes.known("box_offset"), np.float32)
    width = body.add("Add", body.add("Sub", x2, x1), offset)
    height = body.add("Add", body.add("Sub", y2, y1), offset)
    classes = body.add("Range", zero, body.add("Gather", shape, one), one)
    classes = body.add("Unsqueeze", body.add("Cast", classes, to=TensorProto.FLOAT), axes=[0, 2])
    class_of = _in_one_row(body, of_all(classes), no_class)
    columns = body.add("Gather", body.add("Shape", class_of), one)
    return _Pairs(
        x1,
        y1,
        x2,
        y2,
        area=body.add("Mul", width, height),
        class_of=class_of,
        position=body.add("Range", zero, columns, one),
        offset=offset,
    )


def _kept_by_turn(
    body: Body, pairs: _Pairs, live: str, nothing: str, attributes: Attributes
) -> str:
    """Add the loop and return the kept indices: int64 [turns, B], -1 if no pair is left.

    Each iteration keeps the best remaining pair of each image and removes the pairs that it
    suppresses. ``live`` has the pairs' scores, and -inf for removed pairs.
    """
    # Without an iteration there would be no row to give a shape.
    turns = body.constant(max(1, attributes.known("keep_top_k")), np.int64)
    yes, padding = body.constant(True, np.bool_), body.constant(_PADDING, np.int64)
    limit = body.constant(attributes.known("iou_threshold"), np.float32)
    zero = body.constant(0, np.float32)
    turn, going, before = (body.new_name(what) for what in ("turn", "going", "live"))

    inner = body.inside()
    # ONNX Runtime takes the first of equals, so ties go to the lower index.
    best = inner.add("ArgMax", before, axis=1, keepdims=1)
    found = inner.add("Greater", inner.add("GatherElements", before, best, axis=1), nothing)
    kept_now = inner.add("Squeeze", inner.add("Where", found, best, padding), axes=[1])
    found_anywhere = inner.add(
        "ReduceMax", inner.add("Cast", found, to=TensorProto.FLOAT), keepdims=0
    )
    go_on = inner.add("Greater", found_anywhere, zero)
    over_limit = inner.add("Greater", _iou(inner, pairs, best, zero), limit)
    best_class = inner.add("GatherElements", pairs.class_of, best, axis=1)
    same_class = inner.add("Equal", pairs.class_of, best_class)
    itself = inner.add("Equal", pairs.position, best)
    out = inner.add("Or", inner.add("And", over_limit, same_class), itself)
    after = inner.add("Where", out, nothing, before)

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        inner.nodes,
        "keep_one",
        [
            value(turn, TensorProto.INT64, []),
            value(going, TensorProto.BOOL, []),
            value(before, TensorProto.FLOAT, ["B", "L"]),
        ],
        [
            value(go_on, TensorProto.BOOL, []),
            value(after, TensorProto.FLOAT, ["B", "L"]),
            value(kept_now, TensorProto.INT64, ["B"]),
        ],
    )
    at_end, kept = body.new_name("live_at_end"), body.new_name("kept")
    body.nodes.append(helper.make_node("Loop", [turns, yes, live], [at_end, kept], body=graph))
    return kept


def _iou(body: Body, pairs: _Pairs, best: str, zero: str) -> str:
    """Return the IoU of every pair with its image's ``best``, float32 [B, L]."""

    def side(low: str, high: str) -> str:
        left = body.add("Max", body.add("GatherElements", low, best, axis=1), low)
        right = body.add("Min", body.add("GatherElements", high, best, axis=1), high)
        return body.add("Max", body.add("Add", body.add("Sub", right, left), pairs.offset), zero)

    overlap = body.add("Mul", side(pairs.x1, pairs.x2), side(pairs.y1, pairs.y2))
    best_area = body.add("GatherElements", pairs.area, best, axis=1)
    union = body.add("Sub", body.add("Add", best_area, pairs.area), overlap)
    return body.add("Div", overlap, union)
