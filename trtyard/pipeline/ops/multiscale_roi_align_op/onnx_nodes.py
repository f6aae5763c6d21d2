"""MultiscaleRoIAlign in standard ops of any opset from 11 on, as nodes or as a function's body.

The nodes of MaskRcnnROIAlign pool the rois of each level from its map. A Gather brings the results
into the order of the rois.
"""

import math
from typing import List, Sequence

import numpy as np
from onnx import TensorProto

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import MAPS, SCALES
from trtyard.pipeline.ops.multiscale_roi_align_op.levels import (
    LEVEL_EPSILON,
    level_of_scale,
    smallest_area,
)
from trtyard.pipeline.ops.onnx_body import Attributes, Body
from trtyard.pipeline.ops.roi_align_op.onnx_nodes import roi_align


def multiscale_roi_align(body: Body, inputs: Sequence[str], attributes: Attributes) -> str:
    """Add the nodes of MultiscaleRoIAlign and return their output, which is float32.

    Args:
        body: gets the nodes, at opset 11 or newer.
        inputs: the maps, rois and batch_indices.
        attributes: of the custom node.
    """
    maps = inputs[: len(MAPS)]
    rois, batch_indices = inputs[len(MAPS) :]
    rois = body.cast(rois, np.float32)
    # A map without a level is not pooled: the attributes of a node in a graph are known.
    scales = [name for name in SCALES if attributes.known(name) != 0]
    levels = _of_levels(body, rois, attributes, scales)
    pooled = []
    for scale, features, of_level in zip(scales, maps, levels):
        # Not a Squeeze, after which ONNX Runtime 1.1 does not know the rank.
        places = body.add("NonZero", of_level)
        places = body.add("Reshape", places, body.constant([-1], np.int64))
        own = [body.add("Gather", each, places) for each in (rois, batch_indices)]
        part = attributes.for_part({"spatial_scale": scale}, {"mode": 0})
        pooled.append(roi_align(body, [features, *own], part, like_features=False))

    zero, one, two = (body.constant([number], np.int64) for number in (0, 1, 2))
    channels = body.add("Slice", body.add("Shape", maps[0]), one, two, zero)
    bins = [
        body.over("Unsqueeze", [0], attributes.number(body, name, np.int64))
        for name in ("output_height", "output_width")
    ]
    shape = body.add("Concat", one, channels, *bins, axis=0)
    zeros = body.add("Expand", body.constant(0, np.float32), shape)
    # Not a ScatterND, for which ONNX Runtime 1.1 infers no dimensions.
    all_pooled = body.add("Concat", *pooled, zeros, axis=0)
    return body.add("Gather", all_pooled, _places(body, levels))


def _places(body: Body, levels: Sequence[str]) -> str:
    """Return each roi's place behind the rois of finer levels; the last for no level. int64 [R]."""
    before = body.constant([0], np.float32)
    placed = []
    for of_level in levels:
        chosen = body.cast(of_level, np.float32)
        ranks = body.add("CumSum", chosen, body.constant(0, np.int32))  # from 1 on
        ranks = body.add("Sub", body.add("Add", ranks, before), body.constant(1, np.float32))
        placed.append((of_level, ranks))
        # ONNX Runtime 1.1 cannot sum empty rows, and there may be no rois.
        held = body.add("Concat", chosen, before, axis=0)
        before = body.over("ReduceSum", [0], held, keepdims=1)
    place = before
    for of_level, ranks in placed:
        place = body.add("Where", of_level, ranks, place)
    return body.cast(place, np.int64)


def _of_levels(body: Body, rois: str, attributes: Attributes, scales: Sequence[str]) -> List[str]:
    """Return for each scale which rois are pooled from its map, bool [R]."""
    x1, y1, x2, y2 = (
        body.add("Gather", rois, body.constant(column, np.int64), axis=1) for column in range(4)
    )
    area = body.add("Mul", body.add("Sub", x2, x1), body.add("Sub", y2, y1))
    zero, one = (body.constant(number, np.float32) for number in (0, 1))
    # False for NaN, too.
    is_area = body.add("Or", body.add("Less", area, one), body.add("Greater", area, zero))
    is_area = body.add("And", is_area, body.add("Not", body.add("Less", area, zero)))
    known = attributes.known("canonical_scale") is not None
    at_least = _by_area if known else _by_logarithm
    # At least the first map's level, the second's, ..., and one more than the last map's.
    bounds = [is_area]
    for bound in at_least(body, area, attributes, scales):
        bounds.append(body.add("And", is_area, bound))
    found = []
    for level, scale in enumerate(scales):
        of_level = body.add("And", bounds[level], body.add("Not", bounds[level + 1]))
        if not known:
            exists = body.add("Greater", attributes.number(body, scale, np.float32), zero)
            of_level = body.add("And", of_level, exists)
        found.append(of_level)
    return found


def _by_area(body: Body, area: str, attributes: Attributes, scales: Sequence[str]) -> List[str]:
    """Return for each level after the first which rois reach it, for known attributes."""
    first, last = (level_of_scale(attributes.known(scales[end])) for end in (0, -1))
    size, level = (attributes.known(f"canonical_{name}") for name in ("scale", "level"))
    # A roi of a coarser level than the last map's belongs to the last level.
    least = [
        smallest_area(first + index, size, level) if first + index <= last else np.nan
        for index in range(1, len(scales) + 1)
    ]
    return [
        body.add("Not", body.add("Less", area, body.constant(bound, np.float32)))
        if bound == bound
        else body.constant([False], np.bool_)
        for bound in least
    ]


def _by_logarithm(
    body: Body, area: str, attributes: Attributes, scales: Sequence[str]
) -> List[str]:
    """Return the same for the attributes of a function."""
    zero = body.constant(0, np.float32)

    def log2(value: str) -> str:
        """Return the logarithm, correctly rounded."""
        wide = body.add("Cast", value, to=TensorProto.DOUBLE)
        exact = body.add("Div", body.add("Log", wide), body.constant(math.log(2), np.float64))
        return body.cast(exact, np.float32)

    def level_of(scale: str) -> str:
        level = body.cast(body.add("Neg", log2(scale)), np.int32)  # rounds towards 0
        return body.cast(level, np.float32)

    given = [attributes.number(body, name, np.float32) for name in scales]
    first = level_of(given[0])
    last_scale = given[0]
    for scale in given[1:]:
        last_scale = body.add("Where", body.add("Greater", scale, zero), scale, last_scale)
    steps = body.add("Sub", level_of(last_scale), first)

    size = body.add(
        "Div", body.add("Sqrt", area), attributes.number(body, "canonical_scale", np.float32)
    )
    level = body.add("Add", attributes.number(body, "canonical_level", np.float32), log2(size))
    level = body.add("Add", level, body.constant(LEVEL_EPSILON, np.float32))
    index = body.add("Sub", body.add("Floor", level), first)
    found = []
    for number in range(1, len(scales) + 1):
        # Infinity for an area beyond float32.
        is_there = body.add("Greater", index, body.constant(number - 0.5, np.float32))
        # A roi of a coarser level than the last map's belongs to the last level.
        exists = body.add("Greater", steps, body.constant(number - 0.5, np.float32))
        found.append(body.add("And", is_there, exists))
    return found
