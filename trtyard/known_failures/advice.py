"""Adds cause and fix to the facts of failures: to an error, and to a report.

The pipeline gives facts alone. The host adds this, so new words need no new image.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from trtyard.core.errors import TrtyardError
from trtyard.core.report import ExporterWarning, Report, Stage, Symptom
from trtyard.core.toolchains import ANY, Toolchain
from trtyard.known_failures import KNOWN_FAILURES
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.explanation import explain, first_error, rows_in_words, taken_by

Error = TypeVar("Error", bound=TrtyardError)


class Advice(NamedTuple):
    """What is known about one failure."""

    lines: tuple[str, ...]  # the cause, and what takes the model
    mend: str


def advice(log: str, rows: Sequence[Toolchain]) -> Advice | None:
    """Return cause and fix of the first known error in ``log``; None if there is none.

    Args:
        log: all that the failing library or compiler printed.
        rows: the matrix's rows, to name those that take the model.
    """
    first = first_error(log)
    if first is None:
        return None
    lines = [f"  why: {first.failure.cause}"]
    if first.failure not in COMPILING and (
        first.affected not in ((), (ANY,)) or (rows and first.capability)
    ):
        taking = rows_in_words(first, rows) if rows else taken_by(first.affected)
        lines.append(f"  taken as is by: {taking}")
    return Advice(tuple(lines), first.failure.mend)


def with_advice(error: Error, rows: Sequence[Toolchain] = ()) -> Error:
    """Return the error with cause and fix, or the error itself if neither is known."""
    known = advice(error.log or "", rows)
    if known is None:
        return error
    return type(error)("\n".join((error.message, *known.lines)), known.mend, error.log)


def advised(report: Report, rows: Sequence[Toolchain]) -> Report:
    """Return the report with cause and fix of each known failure.

    Stages get them in their reason and fix, warnings and symptoms become notes.
    """
    return report._replace(
        stages=tuple(_advised(stage, rows) for stage in report.stages),
        notes=(
            *report.notes,
            *worth_telling(report.warnings),
            *map(symptom_in_words, report.symptoms),
        ),
    )


def worth_telling(warnings: Iterable[ExporterWarning]) -> list[str]:
    """Return the tracer's warnings, which mean that a value was frozen, and the known ones.

    The others are about the exporter itself.
    """
    return [each.text for each in warnings if each.of_tracer or explain(each.text)]


def symptom_in_words(symptom: Symptom) -> str:
    """Return what was found, why it happens and what to do, in a sentence."""
    for failure in KNOWN_FAILURES:
        if failure.name == symptom.name:
            return f"{symptom.detail}: {failure.cause}. {failure.mend} ({failure.name})"
    return f"{symptom.detail} ({symptom.name})"  # of a later release's pipeline


def _advised(stage: Stage, rows: Sequence[Toolchain]) -> Stage:
    known = advice(stage.log or "", rows)
    if known is None:
        return stage
    return stage._replace(reason="\n".join((stage.reason or "", *known.lines)), mend=known.mend)
