"""Ranges of toolchains as text, such as ``tensorrt < 8.5``."""

import re
from typing import List, NamedTuple, Sequence, Tuple

ANY = "any"  # every toolchain
RTX = "rtx"  # the flavour, as in row.json

_TERM = re.compile(
    r"(?P<subject>tensorrt|rtx|torch|opset|exporter)"
    r"(?: (?P<relation><|>=|==) (?P<value>[\w.]+))?"
)


class Toolchain(NamedTuple):
    """The facts of a row that decide whether it supports a model."""

    row: str
    flavour: str  # "rtx" or "full"
    tensorrt: str  # a release of its flavour, such as "8.6.1.6"
    torch: str
    exporter: str  # "dynamo" or "torchscript"
    opset: int
    runs_on: Tuple[str, ...] = ()  # compute capabilities, such as "8.9"


def is_within(toolchain: Toolchain, ranges: Sequence[str]) -> bool:
    """Return whether ``toolchain`` is in one of ``ranges``.

    A range is terms joined by ", ", all of which must hold: ``any``; ``rtx`` (TensorRT for RTX) and
    ``tensorrt`` (full TensorRT), alone or with ``<`` or ``>=`` and a release; ``torch < 2.1``;
    ``opset < 16``; ``exporter == dynamo``.

    Raises:
        ValueError: a term is invalid.
    """
    return any(all(_holds(term, toolchain) for term in one.split(", ")) for one in ranges)


def outside_in_words(ranges: Sequence[str]) -> str:
    """Return the releases in no range, such as ``TensorRT 8.5 and newer, not TensorRT for RTX``."""
    if ANY in ranges:
        return "no release"
    parsed = [[_parsed(term) for term in one.split(", ")] for one in ranges]
    subjects = {subject for terms in parsed for subject, _, _ in terms}
    words = []
    if subjects & {"tensorrt", RTX}:
        words += [
            _outside(parsed, "tensorrt", "TensorRT"),
            _outside(parsed, RTX, "TensorRT for RTX"),
        ]
    for subject, name in (("torch", "torch"), ("opset", "opset")):
        if subject in subjects:
            words.append(_outside(parsed, subject, name))
    exporters = [value for terms in parsed for subject, _, value in terms if subject == "exporter"]
    words += [f"an exporter other than {value}" for value in exporters]
    return ", ".join(sorted(words, key=lambda one: one.startswith("not ")))


def _outside(ranges: List[List[Tuple[str, str, str]]], subject: str, name: str) -> str:
    """Return the releases of ``subject`` before, between and after ``ranges``, as text."""
    spans = []
    for terms in ranges:
        own = {relation: value for found, relation, value in terms if found == subject}
        if "" in own:
            return f"not {name}"
        if own:
            spans.append((own.get(">=", ""), own.get("<", "")))
    parts, start = [], ""
    for low, high in sorted(spans, key=lambda span: release(span[0])):
        if low:
            parts.append(f"from {start} to before {low}" if start else f"before {low}")
        start = high
    if start:
        parts.append(f"{start} and newer")
    return f"{name} {' or '.join(parts)}" if parts else name


def _holds(term: str, toolchain: Toolchain) -> bool:
    if term == ANY:
        return True
    subject, relation, value = _parsed(term)
    if subject in ("tensorrt", RTX):
        if (subject == RTX) != (toolchain.flavour == RTX):
            return False
        found = toolchain.tensorrt
    elif subject == "exporter":
        return toolchain.exporter == value
    else:
        found = toolchain.torch if subject == "torch" else str(toolchain.opset)
    if not relation:
        return True
    return (release(found) < release(value)) == (relation == "<")


def _parsed(term: str) -> Tuple[str, str, str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(f"not a range of toolchains: {term!r}")
    return match.group("subject"), match.group("relation") or "", match.group("value") or ""


def release(version: str) -> Tuple[int, ...]:
    """Return the numbers of a version before a plus sign: (2, 13, 0) for ``2.13.0+cu130``."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0]))
