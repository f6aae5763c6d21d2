"""Adds cause and fix to the facts of failures: to an error, and to a report.

The pipeline gives facts alone. The host adds this, so new words need no new image.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from trtyard.core.errors import TrtyardError
from trtyard.core.later_opset import LaterOpset, later_opset_in
from trtyard.core.report import ExporterWarning, Report, Stage, Symptom
from trtyard.core.toolchains import ANY, Toolchain, is_within
from trtyard.known_failures import KNOWN_FAILURES
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.explanation import explain, first_error, rows_in_words, taken_by
from trtyard.known_failures.operators import lacking

Error = TypeVar("Error", bound=TrtyardError)


class Advice(NamedTuple):
    """What is known about one failure."""

    lines: tuple[str, ...]  # the cause, and what takes the model
    hint: str


def advice(log: str, rows: Sequence[Toolchain] = (), row: str = "") -> Advice | None:
    """Return cause and fix of the first known error in ``log``; None if there is none.

    Args:
        log: all that the failing library or compiler printed.
        rows: the matrix's rows, to name those that take the model.
        row: the name of the row that failed, if one did.
    """
    later = later_opset_in(log)
    if later is not None:
        return _of_later_opset(later, rows, row)
    first = first_error(log)
    if first is None:
        return None
    lines = [f"  why: {first.failure.cause}"]
    if first.failure not in COMPILING and (
        first.affected not in ((), (ANY,)) or (rows and first.capability)
    ):
        taking = rows_in_words(first, rows) if rows else taken_by(first.affected)
        lines.append(f"  supported by: {taking}")
    return Advice(tuple(lines), first.failure.hint)


def _of_later_opset(found: LaterOpset, rows: Sequence[Toolchain], row: str) -> Advice:
    """Advise the later opset, unless the row's TensorRT has the op at none."""
    why = f"  why: this op came with opset {found.first}, and the export is at {found.opset}"
    replace = f"replace it at that line by ops that opset {found.opset} has"
    ranges = lacking(found.op)
    if not any(one.row == row and is_within(one, ranges) for one in rows):
        return Advice((why,), f"--opset {found.first}, or {replace}")
    why += f"; the TensorRT of row {row} does not have it at any opset"
    taking = [one.row for one in rows if not is_within(one, ranges)]
    other = f"--trt {taking[0]} --opset {found.first}, or " if taking else ""
    return Advice((why,), other + replace)


def with_advice(error: Error, rows: Sequence[Toolchain] = (), row: str = "") -> Error:
    """Return the error with cause and fix, or the error itself if neither is known."""
    known = advice(error.log or "", rows, row)
    if known is None:
        return error
    return type(error)("\n".join((error.message, *known.lines)), known.hint, error.log)


def advised(report: Report, rows: Sequence[Toolchain]) -> Report:
    """Return the report with cause and fix of each known failure.

    Stages get them in their reason and fix, warnings and symptoms become notes.
    """
    return report._replace(
        stages=tuple(_advised(stage, rows, report.row) for stage in report.stages),
        precisions=tuple(
            each._replace(stages=tuple(_advised(stage, rows, report.row) for stage in each.stages))
            for each in report.precisions
        ),
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
            return f"{symptom.detail}: {failure.cause}. {failure.hint} ({failure.name})"
    return f"{symptom.detail} ({symptom.name})"  # of a later release's pipeline


def _advised(stage: Stage, rows: Sequence[Toolchain], row: str) -> Stage:
    known = advice(stage.log or "", rows, row)
    if known is None:
        return stage
    return stage._replace(reason="\n".join((stage.reason or "", *known.lines)), hint=known.hint)
