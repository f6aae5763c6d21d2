"""report.html: a single file without scripts or network access."""

from pathlib import Path

from trtyard.core.report import Report
from trtyard.report.bisect_section import bisect_section
from trtyard.report.comparison_sections import detections_section, parity_section
from trtyard.report.latency_section import latency_section
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.precision_section import precisions_section
from trtyard.report.sections import (
    engine_section,
    header,
    notes_section,
    onnx_section,
    origin_section,
    stages_section,
    verdict_section,
)
from trtyard.report.size_sections import sizes_section

# The browser loads and runs nothing, even if a model's name or an error contains HTML.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report, picture: str | None = None) -> str:
    """Return the report as HTML.

    Args:
        report: the report.
        picture: the overlay as a data URI, or None.
    """
    return document(
        f"{report.model} on {report.row}: trtyard report",
        header(report),
        verdict_section(report),
        stages_section(report),
        detections_section(report, picture),
        parity_section(report),
        bisect_section(report),
        precisions_section(report),
        sizes_section(report),
        latency_section(report),
        onnx_section(report),
        engine_section(report),
        notes_section(report),
        origin_section(report),
    )


def document(title: str, *children: Child) -> str:
    """Return an HTML document that loads and runs nothing."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", *children))
    return joined(Markup("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), "\n")
