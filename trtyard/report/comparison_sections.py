"""The sections of a report's page about comparisons: outputs and detections."""

from trtyard.core.coco import class_name
from trtyard.core.report import (
    ONNXRUNTIME_CUDA,
    SEEDED,
    TORCH_CUDA,
    UNSIMPLIFIED,
    DetectionParity,
    Match,
    OutputParity,
    Report,
)
from trtyard.core.runtime_styles import style_of
from trtyard.report import words
from trtyard.report.charts import error_histogram
from trtyard.report.facts import worst_element
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.sections import passed_badge, section

_WORTH_SAYING = 0.2  # share of padding in the box head's work from which the page advises --top-n


def parity_section(report: Report) -> Markup | None:
    """Return a table of the compared outputs, with a histogram of each one's differences."""
    if not report.parity:
        return None
    head = (
        "Output",
        "Result",
        "Max. difference",
        "Tolerance",
        "Max. relative",
        "Cosine",
        "Beyond tolerance",
    )
    tables = [
        joined(
            tag("h3", f"{words.runtime_name(pair[0])} and {words.runtime_name(pair[1])}"),
            table(head, [_parity_row(row) for row in rows]),
            tag("div", *(_histogram(row) for row in rows), class_="histograms"),
        )
        for pair, rows in _by_pair(report.parity)
    ]
    return section(
        "Outputs, element by element",
        _matched_note(report),
        *tables,
        _tolerances(report),
    )


def _tolerances(report: Report) -> Markup | None:
    sources: dict[str, str] = {row.output: row.tolerance_source for row in report.parity}
    items = [tag("li", tag("b", name), f": {source}") for name, source in sources.items() if source]
    if not items:
        return None
    return joined(tag("h3", "Why these tolerances"), tag("ul", *items, class_="note"))


def _matched_note(report: Report) -> Markup | None:
    if not report.detections:
        return None
    return tag("p", "Compared between matched detections, in any order.", class_="note")


def _by_pair(rows: tuple[OutputParity, ...]) -> list[tuple[tuple[str, str], list[OutputParity]]]:
    pairs: dict[tuple[str, str], list[OutputParity]] = {}
    for row in rows:
        pairs.setdefault(row.pair, []).append(row)
    return list(pairs.items())


def _parity_row(row: OutputParity) -> list[Child]:
    beyond = f"{row.mismatches:,} of {row.elements:,}"
    return [
        tag("b", row.output),
        passed_badge(row.passed),
        words.number(row.max_abs),
        words.tolerance(row.atol, row.rtol) if row.max_abs is not None else words.NOTHING,
        words.number(row.max_rel),
        words.NOTHING if row.cosine is None else words.cosine(row.cosine),
        beyond if row.max_abs is not None else words.NOTHING,
    ]


def table(head: tuple[str, ...], rows: list[list[Child]]) -> Markup:
    """Return a table; each row has a cell for each name in ``head``."""
    # On a phone each row becomes a card with the column's name next to the value.
    body = [
        tag(
            "tr",
            *(tag("td", cell, data_name=name) for name, cell in zip(head, cells, strict=False)),
        )
        for cells in rows
    ]
    heads = tag("tr", *(tag("th", name, scope="col") for name in head))
    return tag("table", tag("thead", heads), tag("tbody", *body))


def _histogram(row: OutputParity) -> Markup:
    notes = [note for note in (row.problem, row.caution) if note]
    if not row.passed:
        notes += filter(None, [worst_element(row)])
    if row.non_finite_alike:
        notes.append(f"{row.non_finite_alike:,} NaN or infinite in both")
    chart = error_histogram(row)
    if chart is None and row.elements and row.problem is None:
        notes.insert(0, f"all {row.elements:,} are identical" if row.elements > 1 else "identical")
    caption = joined(tag("b", row.output), *(f" · {note}" for note in notes))
    return tag("figure", tag("figcaption", caption), chart)


def detections_section(report: Report, picture: str | None) -> Markup | None:
    """Return the picture with the boxes, and the comparison of the detections.

    Args:
        report: the report.
        picture: the overlay as a data URI, or None.
    """
    if not report.detections and picture is None:
        return None
    return section(
        "Detections",
        _picture(report, picture),
        *(_matched(each) for each in report.detections),
        _proposals(report),
    )


def _picture(report: Report, picture: str | None) -> Markup | None:
    if picture is None:
        return None
    pairs = [each.pair for each in report.detections if UNSIMPLIFIED not in each.pair]
    drawn = (name for pair in pairs for name in pair if name not in (TORCH_CUDA, ONNXRUNTIME_CUDA))
    runtimes = dict.fromkeys(drawn)
    legend = words.listed(
        f"{words.runtime_name(name)} {style_of(name).word}" for name in runtimes or {"torch": None}
    )
    caption = f"Boxes and scores: {legend}."
    if report.detections and all(each.passed for each in report.detections):
        caption += " If they agree, both lines are on the same box."
    weights = report.inputs.weights
    if weights is not None and weights.source.startswith(SEEDED):
        caption += (
            " The weights are seeded, not trained: the labels have no meaning, but they must be "
            "the same in all runtimes."
        )
    return tag(
        "figure",
        tag("img", src=picture, alt="The picture with every runtime's boxes drawn on it"),
        tag("figcaption", caption),
        class_="picture",
    )


def _matched(each: DetectionParity) -> Markup:
    names = words.listed(words.runtime_name(name) for name in each.pair)
    title = tag("h3", names + (f", image {each.image}" if each.image else ""))
    if each.problem is not None:
        return joined(title, tag("p", passed_badge(False), " ", each.problem))
    parts = [f"{each.matched} of {each.reference} matched"]
    if each.candidate != each.reference:
        parts.append(f"{words.runtime_name(each.pair[1])} has {each.candidate}")
    if each.worst_iou is not None:
        allowed = each.tolerance
        parts += [
            f"{each.labels_equal} with equal labels",
            f"boxes within {words.number(each.worst_box_diff)} px "
            f"({words.number(allowed.box)} allowed)",
            f"scores within {words.number(each.worst_score_diff)} "
            f"({words.number(allowed.score)} allowed)",
            f"worst IoU {words.cosine(each.worst_iou)}",
        ]
    summary = tag("p", passed_badge(each.passed), " ", ", ".join(parts) + ".")
    return joined(title, summary, _different(each), _alone(each), _all_matches(each))


def _different(each: DetectionParity) -> Markup | None:
    beyond = [match for match in each.matches if not match.within]
    if not beyond:
        return None
    return joined(tag("p", "Matched, but beyond the tolerance:"), _match_table(each, beyond))


def _alone(each: DetectionParity) -> Markup | None:
    if not each.unmatched:
        return None
    items = [
        tag(
            "li",
            tag("b", f"{class_name(alone.label, each.numbering)} {alone.score:.4f}"),
            f" only in {words.runtime_name(alone.runtime)}, at "
            f"({', '.join(words.number(value, 4) for value in alone.box)}): {alone.explanation}",
        )
        for alone in each.unmatched
    ]
    return joined(tag("p", "Without a counterpart:"), tag("ul", *items))


def _all_matches(each: DetectionParity) -> Markup | None:
    if not each.matches:
        return None
    title = tag("summary", f"All {words.counted(each.matched, 'matched detection')}")
    return tag("details", title, _match_table(each, list(each.matches)))


def _match_table(each: DetectionParity, matches: list[Match]) -> Markup:
    left, right = (words.runtime_name(name) for name in each.pair)
    head = (left, right, "Box difference", "Score difference", "IoU")
    rows: list[list[Child]] = [
        [
            f"{class_name(match.labels[0], each.numbering)} {match.scores[0]:.4f}",
            f"{class_name(match.labels[1], each.numbering)} {match.scores[1]:.4f}",
            f"{words.number(match.box_diff)} px",
            words.number(match.score_diff),
            words.cosine(match.iou),
        ]
        for match in matches
    ]
    return table(head, rows)


def _proposals(report: Report) -> Markup | None:
    if not report.proposals:
        return None
    items = [
        f"{each.alive:,}{f' of {each.padded:,}' if each.padded else ''} "
        f"in {words.runtime_name(each.runtime)}"
        for each in report.proposals
    ]
    idle = max(
        (1 - each.alive / each.padded for each in report.proposals if each.padded), default=0
    )
    advice = None
    if idle >= _WORTH_SAYING:
        advice = f" {idle:.0%} of the box head's work is padding: try a smaller --top-n."
    return tag(
        "p",
        tag("b", "Proposals alive: "),
        f"{words.listed(items)}; the rest is padding.",
        advice,
        class_="note",
    )
