"""The index page of several reports: a table of models and rows, with a link to each report."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from trtyard.core.report import NOT_RUN, PASSED, Report
from trtyard.report import words
from trtyard.report.markup import Markup, tag
from trtyard.report.page import document
from trtyard.report.sections import badge, status_of
from trtyard.report.verdict import judge


class Entry(NamedTuple):
    """A report and the address of its page, relative to the index page."""

    report: Report
    link: str


def index_page(entries: Sequence[Entry]) -> str:
    """Return the index page of ``entries``, with one line per model and one column per row."""
    rows = list(dict.fromkeys(entry.report.row for entry in entries))
    models = list(dict.fromkeys(entry.report.model for entry in entries))
    cells: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        cells.setdefault((entry.report.model, entry.report.row), []).append(entry)
    head = tag(
        "tr", tag("th", "Model", scope="col"), *(tag("th", row, scope="col") for row in rows)
    )
    body = [
        tag(
            "tr",
            tag("td", tag("b", model), data_name="Model"),
            *(tag("td", *_cell(cells.get((model, row), [])), data_name=row) for row in rows),
        )
        for model in models
    ]
    passed = sum(judge(entry.report).exit_code == 0 for entry in entries)
    return document(
        "trtyard reports",
        tag(
            "header",
            tag("h1", "Conversion reports"),
            tag("p", f"{passed} of {len(entries)} passed"),
        ),
        tag("section", tag("table", tag("thead", head), tag("tbody", *body))),
    )


def _cell(entries: Sequence[Entry]) -> list[Markup]:
    several = len(entries) > 1
    summaries = [_summary(entry, _folder(entry) if several else "report") for entry in entries]
    return summaries or [tag("span", words.NOTHING)]


def _folder(entry: Entry) -> str:
    """Return the name of the report's folder, which tells reports of one model and row apart."""
    return PurePosixPath(entry.link).parent.name or "report"


def _summary(entry: Entry, name: str) -> Markup:
    report = entry.report
    status = status_of(report)
    facts = [
        words.seconds(sum(stage.seconds or 0 for stage in report.stages)),
        f"largest difference {largest_difference(report)}",
    ]
    idle = [words.runtime_name(one.name) for one in report.stages if one.status == NOT_RUN]
    if idle and status == PASSED:
        facts.append(f"not run: {words.listed(idle)}")
    text = words.one_line(judge(report).headline)
    return tag(
        "p", badge(status), " ", tag("a", name, href=entry.link, title=text), tag("br"),
        tag("span", ", ".join(facts), class_="note"),
    )  # fmt: skip


def largest_difference(report: Report) -> str:
    """Return the largest difference of all outputs; for detectors that of boxes, in pixels."""
    boxes = [each.worst_box_diff for each in report.detections if each.worst_box_diff is not None]
    if boxes:
        return f"{words.number(max(boxes))} px"
    outputs = [row.max_abs for row in report.parity if row.max_abs is not None]
    return words.number(max(outputs)) if outputs else words.NOTHING
