"""The picture with every runtime's boxes: solid for the reference, dashes on top for the others."""

from pathlib import Path
from typing import List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from trtyard.core.coco import class_name
from trtyard.core.files import written_whole
from trtyard.core.report import RUNTIME_NAMES
from trtyard.core.runtime_styles import RuntimeStyle, style_of
from trtyard.pipeline.lettering import letters
from trtyard.pipeline.parity.padded import Detections

# The drawing's longer side: small pictures are enlarged so that labels fit, large ones reduced so
# that the file can be mailed.
SMALLEST_SIDE, LARGEST_SIDE = 1024, 1600
# No more than this many of each runtime's best detections: beyond, nothing can be told apart.
MOST_BOXES, MOST_LABELS = 24, 12

_LINE = 1 / 640  # line width per pixel of the longer side
_TEXT = 1 / 50  # text height likewise
_INK = (16, 16, 16)
_PAPER = (255, 255, 255)

Box = Tuple[float, float, float, float]


class _Drawn(NamedTuple):
    """A detection on the canvas."""

    box: Box  # canvas pixels
    text: str
    style: RuntimeStyle


def draw_overlay(
    picture_rgb: np.ndarray,
    scale: Tuple[float, float],
    detections: Mapping[str, Detections],
    path: Path,
) -> None:
    """Draw the boxes of every runtime on the picture and write it as PNG, whole or not at all.

    Args:
        picture_rgb: uint8 [H, W, 3], as it was before resizing for the network.
        scale: network-input pixels per picture pixel, (x, y).
        detections: by runtime, the reference first; boxes in network-input pixels, best first.
        path: the file to write.
    """
    height, width = picture_rgb.shape[:2]
    longer = max(height, width)
    zoom = min(max(longer, SMALLEST_SIDE), LARGEST_SIDE) / longer
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    canvas = Image.fromarray(picture_rgb).resize(size, Image.LANCZOS)
    unit = max(size) * _LINE
    text_size = round(max(size) * _TEXT)
    per_input = (zoom / scale[0], zoom / scale[1])  # canvas pixels for a network-input pixel
    drawn = [
        _on_canvas(found, style_of(runtime), per_input, size)
        for runtime, found in detections.items()
    ]
    draw = ImageDraw.Draw(canvas)
    for boxes in drawn:
        for each in reversed(boxes):  # the best on top
            _draw_box(draw, each.box, each.style, unit)
    _draw_labels(canvas, drawn, text_size)
    with written_whole(path) as partial:
        _with_legend(canvas, detections, text_size, unit).save(partial, format="PNG")


def _on_canvas(
    found: Detections, style: RuntimeStyle, zoom: Tuple[float, float], size: Tuple[int, int]
) -> List[_Drawn]:
    # Lines along the picture's edge stay whole, and what a broken runtime puts far away is reached.
    inset = max(size) * _LINE * (style.width + style.edge) / 2
    limit = np.array([*size, *size]) - inset
    drawn: List[_Drawn] = []
    for box, score, label in zip(found.boxes, found.scores, found.labels):
        if len(drawn) == MOST_BOXES:
            break
        if not np.isfinite(box).all():
            continue
        corners = np.clip(box.astype(np.float64) * [*zoom, *zoom], inset, limit)
        left, top, right, bottom = corners.tolist()
        text = f"{class_name(int(label), found.numbering)} {float(score):.2f}"
        drawn.append(_Drawn((left, top, right, bottom), text, style))
    return drawn


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, style: RuntimeStyle, unit: float) -> None:
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    # A dark edge keeps lines readable on a bright picture.
    edge = round((style.width + style.edge) * unit)
    _draw_dashes(draw, corners, style.dash, unit, edge, _INK)
    _draw_dashes(draw, corners, style.dash, unit, round(style.width * unit), style.colour)


def _draw_dashes(
    draw: ImageDraw.ImageDraw,
    points: Sequence[Tuple[float, float]],
    dash: Tuple[int, int],
    unit: float,
    width: int,
    colour: Tuple[int, int, int],
) -> None:
    on, off = dash[0] * unit, dash[1] * unit
    for start, end in zip(points, points[1:]):
        length = abs(end[0] - start[0]) + abs(end[1] - start[1])  # sides are upright or level
        if not length:
            continue
        step = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        at = 0.0
        while at < length:
            until = length if not off else min(at + on, length)
            ends = [(start[0] + step[0] * t, start[1] + step[1] * t) for t in (at, until)]
            draw.line(ends, fill=colour, width=max(1, width))
            at = until + off if off else length


def _draw_labels(canvas: Image.Image, drawn: List[List[_Drawn]], text_size: int) -> None:
    """Write the labels of the best detections where they do not cover another label.

    A runtime that says the same of the same place as one before it needs no second label.
    """
    placed: List[Box] = []
    said: List[_Drawn] = []
    for boxes in drawn:
        for each in boxes[:MOST_LABELS]:
            if any(_says_the_same(each, other, text_size) for other in said):
                continue
            said.append(each)
            mask = letters(each.text, text_size)
            pad = max(2, text_size // 5)
            spot = _free_spot(each.box, (mask.width + 2 * pad, mask.height + 2 * pad), placed,
                              canvas.size)  # fmt: skip
            placed.append(spot)
            ImageDraw.Draw(canvas).rectangle(spot, fill=each.style.colour)
            corner = (round(spot[0]) + pad, round(spot[1]) + pad)
            canvas.paste(_INK, (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)


def _says_the_same(one: _Drawn, other: _Drawn, near: float) -> bool:
    return one.text == other.text and all(
        abs(left - right) <= near for left, right in zip(one.box, other.box)
    )


def _free_spot(box: Box, size: Tuple[int, int], placed: List[Box], canvas: Tuple[int, int]) -> Box:
    """Return the first place at a corner of ``box`` that covers no label, else the first one."""
    left, top, right, bottom = box
    width, height = size
    corners = [
        (left, top - height),
        (left, top),
        (right - width, top - height),
        (right - width, top),
        (left, bottom),
        (left, bottom - height),
        (right - width, bottom),
        (right - width, bottom - height),
    ]
    spots = []
    for x, y in corners:
        x, y = min(max(x, 0), canvas[0] - width), min(max(y, 0), canvas[1] - height)
        spots.append((x, y, x + width, y + height))
    free = [spot for spot in spots if not any(_overlap(spot, other) for other in placed)]
    return (free or spots)[0]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _with_legend(
    picture: Image.Image, detections: Mapping[str, Detections], text_size: int, unit: float
) -> Image.Image:
    """Return the picture with a legend of the runtimes below it."""
    row, pad, indent = text_size * 2, text_size, text_size * 7
    names = [letters(_legend(runtime, found), text_size) for runtime, found in detections.items()]
    width = max([picture.width] + [indent + name.width + pad for name in names])
    whole = Image.new("RGB", (width, picture.height + row * len(names) + pad), _INK)
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for index, (runtime, name) in enumerate(zip(detections, names)):
        middle = picture.height + pad // 2 + row * index + row // 2
        style = style_of(runtime)
        sample = [(pad, middle), (indent - pad, middle)]
        _draw_dashes(draw, sample, style.dash, unit, round(style.width * unit), style.colour)
        top = middle - name.height // 2
        whole.paste(_PAPER, (indent, top, indent + name.width, top + name.height), name)
    return whole


def _legend(runtime: str, found: Detections) -> str:
    count = len(found.scores)
    text = f"{RUNTIME_NAMES.get(runtime, runtime)}: {count:,} detection{'s' if count != 1 else ''}"
    if len(found.scores) > MOST_BOXES:
        text += f", the best {MOST_BOXES} drawn"
    return text
