"""Add cause and fix of known failures to an error or a report.

The pipeline records only facts. The host adds the advice, so new texts need no new image.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from trtyard.core.errors import TrtyardError
from trtyard.core.later_opset import LaterOpset, later_opset_in
from trtyard.core.report import ExporterWarning, Report, Stage, Symptom
from trtyard.core.toolchains import ANY, Toolchain, is_within
from trtyard.known_failures import KNOWN_FAILURES, KnownFailure
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.explanation import explain, first_error, rows_in_words, taken_by
from trtyard.known_failures.operators import lacking

Error = TypeVar("Error", bound=TrtyardError)


class Advice(NamedTuple):
    """What is known about one failure."""

    lines: tuple[str, ...]  # the cause, and which rows or releases support the model
    hint: str


def advice(log: str, rows: Sequence[Toolchain] = (), row: str = "") -> Advice | None:
    """Return cause and fix of the first known error in ``log``; None if there is none.

    Args:
        log: the complete output of the failing library or compiler.
        rows: the matrix's rows, to name those that support the model.
        row: the name of the row that failed, or "".
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
    """Return the advice for an op of a later opset.

    It names the later opset, or another row if this row's TensorRT does not support the op.
    """
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
    """Return the warnings that concern the user: the tracer's, and the known ones.

    A warning of the tracer means that a value was frozen. The others are about the exporter.
    """
    return [each.text for each in warnings if each.of_tracer or explain(each.text)]


def symptom_in_words(symptom: Symptom) -> str:
    """Return a sentence with the symptom, its cause and its fix."""
    for failure in KNOWN_FAILURES:
        if failure.name == symptom.name:
            return f"{symptom.detail}: {failure.cause}. {failure.hint} ({failure.name})"
    return f"{symptom.detail} ({symptom.name})"  # a later release wrote the report


def failure_named(name: str) -> KnownFailure | None:
    """Return the known failure of that name; None if there is none."""
    return next((one for one in KNOWN_FAILURES if name and one.name == name), None)


def _advised(stage: Stage, rows: Sequence[Toolchain], row: str) -> Stage:
    known = advice(stage.log or "", rows, row)
    if known is None:
        return stage
    return stage._replace(reason="\n".join((stage.reason or "", *known.lines)), hint=known.hint)
