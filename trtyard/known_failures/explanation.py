"""Find the known failures in a log, with place, cause and fix."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trtyard.core.toolchains import Toolchain, is_within, outside_in_words
from trtyard.known_failures import KNOWN_FAILURES, KnownFailure
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.images import IMAGES
from trtyard.known_failures.log_places import NEAR_LINES, Place, place_near
from trtyard.known_failures.operators import STANDARD_OPS, outside_of

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LOOKS_LIKE_ERROR = re.compile(
    r"error|exception|traceback|assert|fail|abort|fatal|not supported|unsupported|segfault|"
    r"segmentation fault|core dumped|\[E\]|^E: |Expired:|"
    r"no such file|not found|cannot |can't |could not|couldn't|unable to|denied|unauthorized|"
    r"undefined (?:symbol|reference)|no space left|out of memory|\bkilled\b|\bpanic\b|"
    r"timed out|timeout:|\brefused\b|\bmismatch\b",
    re.IGNORECASE,
)
_NO_ERROR = re.compile(
    r"\b(?:0|no) (?:\w+ )?(?:errors?|failures?|failed|exceptions?)\b|"
    r"\b(?:errors?|failures?|failed): ?0\b",
    re.IGNORECASE,
)
_LONGEST_LINE = 300  # characters shown of a log line


class Explanation(NamedTuple):
    """One known failure in a log."""

    failure: KnownFailure
    line: int  # line number in the log, from 1
    words: str  # that line
    place: Place
    affected: tuple[str, ...]  # the failure's ranges, or narrower ones of the op
    capability: str = ""  # the GPU's, if the error names it, such as "8.9"


def explain(log: str) -> list[Explanation]:
    """Return every known failure in ``log``, the most informative first.

    Errors come before warnings, specific before general failures, earlier before later lines.
    """
    log = cleaned(log)
    found = [one for failure in KNOWN_FAILURES for one in _matches(failure, log)]
    kept = [one for number, one in enumerate(found) if not _is_covered(one, found, number)]
    return sorted(kept, key=lambda one: (one.failure.warning, one.failure.general, one.line))


def first_error(log: str) -> Explanation | None:
    """Return the most informative known error in ``log``, or None."""
    return next((one for one in explain(log) if not one.failure.warning), None)


def _is_covered(one: Explanation, found: Sequence[Explanation], number: int) -> bool:
    """Return whether another failure in ``found`` makes this general one redundant.

    The other one is less general, or comes earlier in the list of known failures.
    """
    return one.failure.general and any(
        (not other.failure.general or position < number)
        and other.failure.warning == one.failure.warning
        and (
            other.line == one.line
            or other.place.op == one.place.op != ""
            or (not one.place.op and abs(other.line - one.line) <= NEAR_LINES)
        )
        for position, other in enumerate(found)
        if other is not one
    )


def cleaned(log: str) -> str:
    """Return the log without terminal colours and carriage returns."""
    return _TERMINAL_CODES.sub("", log).replace("\r\n", "\n").replace("\r", "\n")


def error_lines(log: str, most: int = 8) -> list[str]:
    """Return the lines that look like errors: the first and last ones if there are many."""
    lines = [
        line.strip()
        for line in cleaned(log).splitlines()
        if _LOOKS_LIKE_ERROR.search(_NO_ERROR.sub("", line))
    ]
    lines = [line[:_LONGEST_LINE] for line in dict.fromkeys(lines)]
    return lines if len(lines) <= most else [*lines[: most // 2], *lines[-most // 2 :]]


def takes_as_is(explanation: Explanation, toolchain: Toolchain) -> bool | None:
    """Return whether the toolchain supports the unchanged model.

    None if the failure does not depend on the toolchain.
    """
    if explanation.capability:
        return explanation.capability in toolchain.runs_on
    if not explanation.affected:
        return None
    return not is_within(toolchain, explanation.affected)


def taken_by(affected: Sequence[str]) -> str:
    """Return which releases support the unchanged model, or "" if no release is at fault."""
    return outside_in_words(affected) if affected else ""


def rows_in_words(explanation: Explanation, rows: Sequence[Toolchain]) -> str:
    """Return which of ``rows``, and which releases, support the unchanged model.

    Empty if the failure does not depend on the toolchain.
    """
    answers = {row.row: takes_as_is(explanation, row) for row in rows}
    if None in answers.values():
        return ""
    taking = [name for name, answer in answers.items() if answer]
    words = f"row {', '.join(taking)}" if taking else "no row of versions.toml"
    if explanation.capability:
        return f"{words} (engines run on compute capability {explanation.capability})"
    return f"{words} ({taken_by(explanation.affected)})"


def build_failure(words: str) -> KnownFailure | None:
    """Return the known failure of a compiler or an image build in ``words``, or None."""
    found = (one.failure for one in explain(words) if one.failure in (*COMPILING, *IMAGES))
    return next(found, None)


def _matches(failure: KnownFailure, log: str) -> Iterator[Explanation]:
    """Yield the failure once for each op that it names, or once if it names none."""
    seen: set[str] = set()
    # An error that already has its advice contains the cause instead of the pattern.
    own = rf"\n  why: {re.escape(failure.cause)}\n"
    for pattern in (*failure.patterns, own):
        for match in re.finditer(pattern, log):
            one = _explanation(failure, log, match)
            kind = "standard" if one.place.op in STANDARD_OPS else "custom"
            if pattern != own and failure.op and (not one.place.op or failure.op != kind):
                continue
            if one.place.op not in seen and not (seen and not one.place.op):
                seen.add(one.place.op)
                yield one


def _explanation(failure: KnownFailure, log: str, match: "re.Match[str]") -> Explanation:
    named = match.groupdict()
    # A match may span several lines. The last one is the error.
    end = match.end()
    place = place_near(log, match.start())
    if named.get("op"):
        same = place.op == named["op"]
        place = place._replace(op=named["op"])
        if not same:
            place = place._replace(node="", number=None)
    if named.get("node"):
        place = place._replace(node=named["node"])
    start = log.rfind("\n", 0, end) + 1
    last = log.find("\n", end)
    affected = failure.affected
    if failure.op == "standard":
        affected = outside_of(place.op)
    return Explanation(
        failure,
        line=log.count("\n", 0, end) + 1,
        words=log[start : last if last >= 0 else len(log)].strip()[:_LONGEST_LINE],
        place=place,
        affected=affected,
        capability=_capability(named),
    )


def _capability(named: dict[str, str | None]) -> str:
    """Return a compute capability such as "8.9", which TensorRT writes as 0x809, 89 or 8.9.

    120 is "12.0".
    """
    if named.get("sm_hex"):
        number = int(named["sm_hex"] or "", 16)
        return f"{number >> 8}.{number & 0xFF}"
    sm = named.get("sm") or ""
    return sm if not sm or "." in sm else f"{sm[:-1]}.{sm[-1]}"
