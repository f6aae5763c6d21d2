"""Adds cause and fix to the facts of a failure: to an error, and to a report's stages.

The pipeline gives facts alone. The host adds this, so new words need no new image.
"""

from typing import NamedTuple, Optional, Sequence, Tuple, TypeVar

from trtyard.core.errors import TrtyardError
from trtyard.core.report import Report, Stage
from trtyard.core.toolchains import ANY, Toolchain
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.explanation import explain, rows_in_words, taken_by

Error = TypeVar("Error", bound=TrtyardError)


class Advice(NamedTuple):
    """What is known about one failure."""

    lines: Tuple[str, ...]  # the cause, and what takes the model
    mend: str


def advice(log: str, rows: Sequence[Toolchain]) -> Optional[Advice]:
    """Return cause and fix of the first known error in ``log``; None if there is none.

    Args:
        log: all that the failing library or compiler printed.
        rows: the matrix's rows, to name those that take the model.
    """
    found = [one for one in explain(log) if not one.failure.warning]
    if not found:
        return None
    first = found[0]
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
    """Return the report with cause and fix of every stage whose log shows a known error."""
    return report._replace(stages=tuple(_advised(stage, rows) for stage in report.stages))


def _advised(stage: Stage, rows: Sequence[Toolchain]) -> Stage:
    known = advice(stage.log or "", rows)
    if known is None:
        return stage
    return stage._replace(reason="\n".join((stage.reason or "", *known.lines)), mend=known.mend)
