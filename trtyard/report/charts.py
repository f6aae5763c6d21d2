"""The charts of a report: bars of times, and an SVG histogram of differences."""

import math

from trtyard.core.report import (
    HIGHEST_DECADE,
    LOWEST_DECADE,
    Divergence,
    ErrorHistogram,
    OutputParity,
    Timing,
)
from trtyard.report import words
from trtyard.report.markup import Markup, tag

_WIDTH, _HEIGHT = 340, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 14, 34, 34
_FLOOR = _HEIGHT - _BOTTOM
_SIDE_BAR, _SIDE_GAP = 34, 20  # the bars beside the axis: no difference, NaN
_WIDEST_DECADE = 44
_MOST_TICKS = 8
_BAR_PITCH, _BAR_HEIGHT, _MEDIAN_ROOM = 32, 10, 62  # of the bars of latencies
_LEAST, _MOST = -8.0, 1.0  # decades of a growth chart


def time_bar(value: float | None, longest: float) -> Markup:
    """Return a duration as a bar; an empty track if there is none."""
    if value is None or longest <= 0:
        return tag("span", class_="track")
    share = max(0.5, 100 * value / longest)
    return tag("span", tag("span", style=f"width:{share:.1f}%", class_="bar"), class_="track")


def latency_bars(rows: list[tuple[str, Timing]]) -> Markup | None:
    """Return a bar to the median of each timing, and a line on to its p99; None without rows."""
    longest = max((each.p99_ms or each.median_ms or 0 for _title, each in rows), default=0)
    if not longest:
        return None
    scale = (_WIDTH - _LEFT - _MEDIAN_ROOM) / longest
    shapes: list[Markup] = []
    for number, (title, each) in enumerate(rows):
        top = number * _BAR_PITCH
        middle = top + _BAR_PITCH - _BAR_HEIGHT / 2 - 4
        median = _LEFT + max(1.0, scale * (each.median_ms or 0))
        end = max(median, _LEFT + scale * (each.p99_ms or 0))
        width, start = median - _LEFT, middle - _BAR_HEIGHT / 2
        shapes += [
            _text(title, _LEFT, top + 12, "count", "start"),
            tag("rect", x=_LEFT, y=start, width=width, height=_BAR_HEIGHT, rx=2, class_="within"),
            _line(median, middle, end, middle, "axis"),
            _text(words.milliseconds(each.median_ms), end + 4, middle + 4, "count", "start"),
        ]
    return tag(
        "svg",
        tag("title", "Medians; the line ends at the 99th percentile"),
        *shapes,
        viewBox=f"0 0 {_WIDTH} {len(rows) * _BAR_PITCH}",
        role="img",
        class_="histogram",
    )


def error_histogram(row: OutputParity) -> Markup | None:
    """Return a histogram of the differences on a logarithmic axis, or None if nothing differs.

    Heights are logarithmic too, so that one bad element in a million is visible. Each bar has its
    count above it, and the tolerance is marked. If the comparison failed, decades beyond atol are
    red.
    """
    histogram = row.histogram
    if histogram is None or not (histogram.decades or histogram.non_finite):
        return None
    axis = _Axis(histogram, row.atol)
    tallest = math.log1p(max(histogram.exact, histogram.non_finite, *histogram.decades, 1))
    shapes = axis.ticks()
    if histogram.exact:
        shapes += _bar("exact", _LEFT, _SIDE_BAR, histogram.exact, tallest)
        shapes.append(_text("none", _LEFT + _SIDE_BAR / 2, _FLOOR + 14, "tick"))
    for offset, count in enumerate(histogram.decades):
        exponent = histogram.lowest + offset
        beyond = not row.passed and float(f"1e{exponent + 1}") > row.atol
        left, right = axis.x(exponent), axis.x(exponent + 1)
        kind = "beyond" if beyond else "within"
        shapes += _bar(kind, left + 1, right - left - 2, count, tallest)
    if histogram.non_finite:
        shapes += _bar("beyond", axis.right + _SIDE_GAP, _SIDE_BAR, histogram.non_finite, tallest)
        middle = axis.right + _SIDE_GAP + _SIDE_BAR / 2
        shapes.append(_text("NaN, ∞", middle, _FLOOR + 14, "tick"))
    shapes += axis.limit(row)
    return tag(
        "svg",
        tag("title", _summary(row.output, histogram)),
        *shapes,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        class_="histogram",
    )


def growth_chart(one: Divergence) -> Markup | None:
    """Return the error of each value from the wrong node to the outputs; None for a single one.

    Heights are logarithmic, from 1e-8 of the largest right value up to 10 times it.
    """
    if len(one.growth) < 2:
        return None
    step = (_WIDTH - 2 * _LEFT) / len(one.growth)
    shapes = [_line(_LEFT, _FLOOR, _WIDTH - _LEFT, _FLOOR, "axis")]
    for number, each in enumerate(one.growth):
        error = math.inf if each.error is None else each.error
        decades = min(max(math.log10(error) if error > 0 else -math.inf, _LEAST), _MOST)
        height = max(1.0, (_FLOOR - _TOP) * (decades - _LEAST) / (_MOST - _LEAST))
        title = tag("title", f"{each.op} {each.value}: {words.number(each.error)}")
        shapes.append(
            tag(
                "rect", title, x=_LEFT + number * step + 1, y=_FLOOR - height,
                width=max(step - 2, 1.0), height=height, class_="beyond",
            )
        )  # fmt: skip
    first, last = one.growth[0], one.growth[-1]
    right = _WIDTH - _LEFT
    shapes += [
        _text(f"{first.op}: {words.number(first.error)}", _LEFT, _FLOOR + 14, "tick", "start"),
        _text(f"{last.value}: {words.number(last.error)}", right, _FLOOR + 14, "tick", "end"),
        _text(
            "error as a share of the largest value, from the node to the outputs",
            _WIDTH / 2, _HEIGHT - 3, "axis-name",
        ),
    ]  # fmt: skip
    summary = f"Error of {one.value} and of what is made of it"
    return tag(
        "svg",
        tag("title", summary),
        *shapes,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        class_="histogram",
    )


class _Axis:
    """Powers of ten from left to right, wide enough for the errors and the tolerance."""

    def __init__(self, histogram: ErrorHistogram, atol: float) -> None:
        ends = [histogram.lowest, histogram.lowest + max(len(histogram.decades), 1)]
        self.log_atol: float | None = math.log10(atol) if atol > 0 else None
        if self.log_atol is not None:
            # A tolerance far outside the decades is left out, not drawn in a wrong place.
            if LOWEST_DECADE <= self.log_atol <= HIGHEST_DECADE + 1:
                ends += [math.floor(self.log_atol), math.ceil(self.log_atol + 1e-9)]
            else:
                self.log_atol = None
        self.lowest, self.highest = min(ends), max(ends)
        self.left = _LEFT + (_SIDE_BAR if histogram.exact else 0) + _SIDE_GAP
        side = _SIDE_BAR + _SIDE_GAP if histogram.non_finite else 0
        span = self.highest - self.lowest
        self.step = min((_WIDTH - _RIGHT - side - self.left) / span, _WIDEST_DECADE)
        self.right = self.left + self.step * span

    def x(self, exponent: float) -> float:
        return self.left + (exponent - self.lowest) * self.step

    def ticks(self) -> list[Markup]:
        lines = [_line(self.left, _FLOOR, self.right, _FLOOR, "axis")]
        every = math.ceil((self.highest - self.lowest) / _MOST_TICKS)
        for exponent in range(self.lowest, self.highest + 1, every):
            at = self.x(exponent)
            lines.append(_line(at, _FLOOR, at, _FLOOR + 3, "axis"))
            lines.append(_text(words.number(float(f"1e{exponent}")), at, _FLOOR + 14, "tick"))
        lines.append(
            _text("size of the difference", (self.left + self.right) / 2, _HEIGHT - 3, "axis-name")
        )
        return lines

    def limit(self, row: OutputParity) -> list[Markup]:
        if self.log_atol is None:
            return []
        at = self.x(self.log_atol)
        more = " + relative part" if row.rtol else ""
        anchor = "end" if at > _WIDTH / 2 else "start"
        return [
            _line(at, 14, at, _FLOOR, "limit"),
            _text(f"tolerance {words.number(row.atol)}{more}", at, 10, "limit-name", anchor),
        ]


def _bar(kind: str, left: float, width: float, count: int, tallest: float) -> list[Markup]:
    if not count:
        return []
    height = max(3.0, (_FLOOR - _TOP) * math.log1p(count) / tallest)
    top = _FLOOR - height
    bar = tag("rect", x=left, y=top, width=width, height=height, rx=2, class_=kind)
    return [bar, _text(words.compact(count), left + width / 2, top - 4, "count")]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(text: str, x: float, y: float, kind: str, anchor: str = "middle") -> Markup:
    return tag("text", text, x=x, y=y, class_=kind, text_anchor=anchor)


def _summary(output: str, histogram: ErrorHistogram) -> str:
    parts = [(f"{histogram.exact:,} do not differ", histogram.exact)]
    for offset, count in enumerate(histogram.decades):
        exponent = histogram.lowest + offset
        parts.append((f"{count:,} between 1e{exponent} and 1e{exponent + 1}", count))
    parts.append((f"{histogram.non_finite:,} NaN or infinite", histogram.non_finite))
    return f"Elements of {output} by their difference: " + ", ".join(
        text for text, count in parts if count
    )
