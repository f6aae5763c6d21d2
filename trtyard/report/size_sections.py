"""The section of a report's page about a dynamic model's sizes."""

from trtyard.core.report import DynamicDimension, Report
from trtyard.report import words
from trtyard.report.comparison_sections import table
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.sections import definitions, passed_badge, section
from trtyard.report.size_facts import (
    largest_difference,
    size_remarks,
    size_words,
    sized_pairs,
    sizes_compared,
)


def sizes_section(report: Report) -> Markup | None:
    """Return the ranges of the dimensions that vary, and a table of the compared sizes."""
    if not report.dimensions:
        return None
    ranges: list[tuple[str, Child]] = [(each.name, _ranges(each)) for each in report.dimensions]
    return section(
        "Sizes", definitions(ranges), *(_compared(report, p) for p in sized_pairs(report))
    )


def _ranges(each: DynamicDimension) -> str:
    profiles = (
        f"{least} to {most}, optimized for {usual}" if least < most else f"{most}"
        for least, usual, most in each.profiles
    )
    return f"{words.listed(each.places)}: {'; '.join(profiles)}"


def _compared(report: Report, pair: tuple[str, str]) -> Markup:
    own = sizes_compared(report, pair)
    rows: list[list[Child]] = [
        [
            size_words(each),
            each.role,
            passed_badge(each.passed),
            words.number(largest_difference([each])),
            size_remarks(each) or words.NOTHING,
        ]
        for each in own
    ]
    head = ("Size", "Place in the range", "Result", "Max. difference", "Remarks")
    names = f"{words.runtime_name(pair[0])} and {words.runtime_name(pair[1])}"
    note = tag("p", "Each size has random inputs of its own.", class_="note")
    return joined(tag("h3", names), table(head, rows), note)
