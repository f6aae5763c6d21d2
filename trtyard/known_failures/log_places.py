"""Find the place of an error in a log: the op, its node and the Python line."""

import functools
import re
from re import Pattern
from typing import Any, NamedTuple

from trtyard.core.cited_lines import (
    FRAME,
    GRAPH_COMMENT,
    NOTEBOOK_FRAME,
    OWN_AT,
    TRACED,
    WARNED,
    is_library,
)

# How many lines around an error may belong to it: TensorRT prints a node's text between its name
# and the error.
NEAR_LINES = 60

_NODES = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # TensorRT's parser, from 10 on, and what IParserError prints before.
        r"[Ii]n node (?P<number>\d+) with name: (?P<node>[^\n]*?) and operator: (?P<op>\w+)",
        r"While parsing node number (?P<number>\d+) \[(?P<op>[\w.:]+)(?: -> |\])",
        r"In node (?P<number>\d+) \((?:importFallbackPluginImporter|importPlugin|parseGraph|"
        r"import(?P<op>[A-Z]\w+))\)",
        r"(?P<node>\S+) \[(?P<op>[A-Z]\w+)\] inputs: ",
        r"No importer registered for op: (?P<op>\w+)\. Attempting to import as plugin",
        r"Searching for plugin: (?P<op>\w+), plugin_version",
        r'^(?:\[.*\] )*(?:\w+\.cpp:\d+: )?name: "(?P<node>[^"]+)"\s+op_type: "(?P<op>\w+)"',
        # ONNX Runtime.
        r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+),',
        r"while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)'",
        r"of operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\)",
        r"Could not find an implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'",
        r"Error in Node:(?P<node>\S*) : No Op registered for (?P<op>\w+)",
    )
)

# trtyard's own messages name the node after the error.
_NODES_BEHIND = (re.compile(r"^\s*op: (?P<op>[\w.:]+)(?: \(node (?P<node>.+)\))?$", re.MULTILINE),)


class Place(NamedTuple):
    """The place of an error. A field is empty or None if the log does not contain it."""

    op: str = ""
    node: str = ""  # the ONNX node's name
    number: int | None = None  # the node's index in the graph
    python: str = ""  # file:line, with function and code if the log has them


def place_near(log: str, start: int) -> Place:
    """Return the op, node and Python line of the error at offset ``start``."""
    first, last = _window(log, start)
    error_line = log.count("\n", first, start)
    found = []
    for follows, patterns in ((False, _NODES), (True, _NODES_BEHIND)):
        for pattern in patterns:
            for match in pattern.finditer(log, first, last):
                distance = error_line - log.count("\n", first, match.end())
                distance = -distance if follows else distance
                if (
                    distance < 0
                ):  # most likely of the next error: used only if nothing else is found
                    distance = NEAR_LINES - distance
                found.append((distance, _as_place(match.groupdict())))
    found.sort(key=lambda pair: pair[0])
    op = next((place.op for _, place in found if place.op), "")
    # Do not use another node's name.
    same = [place for _, place in found if place.op in (op, "")]
    return Place(
        op=op,
        node=next((place.node for place in same if place.node), ""),
        number=next((place.number for place in same if place.number is not None), None),
        python=python_line(log, start),
    )


def _window(log: str, start: int) -> tuple[int, int]:
    """Return the offsets of the lines around ``start`` that may belong to the same error."""
    first = last = start
    for _ in range(NEAR_LINES):
        first = log.rfind("\n", 0, max(first - 1, 0)) + 1
        last = log.find("\n", last + 1)
        if last < 0:
            last = len(log)
    return first, last


def _as_place(found: dict[str, Any]) -> Place:
    number = found.get("number")
    return Place(
        op=found.get("op") or "",
        node=found.get("node") or "",
        number=None if number is None else int(number),
    )


def python_line(log: str, start: int = 0) -> str:
    """Return the user's Python line that the log cites, the nearest to ``start`` if several.

    Frames in installed packages are ignored, because users do not change a model there.
    """
    own = _cited(log, OWN_AT)
    if own:
        return _worded(min(own, key=lambda match: (match.start() < start, match.start())))
    defined = _cited(log, TRACED)
    if defined:  # the line of the op itself; a traceback has the line of the export
        return _worded(min(defined, key=lambda match: (match.start() < start, match.start())))
    calls = [*_cited(log, FRAME), *_cited(log, NOTEBOOK_FRAME)]
    if calls:
        # The user's innermost frame comes last in a traceback.
        before = [match for match in calls if match.start() <= start]
        after = [match for match in calls if match.start() > start]
        return _worded((before or _first_stack(log, after))[-1])
    warned = _cited(log, WARNED)
    if warned:
        return _worded(min(warned, key=lambda match: abs(match.start() - start)))
    comments = _cited(log, GRAPH_COMMENT)
    return _worded(comments[-1]) if comments else ""


@functools.lru_cache(maxsize=8)  # the same log and patterns are used for each of its errors
def _cited(log: str, pattern: "Pattern[str]") -> tuple["re.Match[str]", ...]:
    """Return the matches of ``pattern`` in ``log`` that are in the user's code.

    The lines that trtyard's own messages cite are always the user's.
    """
    found = pattern.finditer(log)
    return tuple(match for match in found if pattern is OWN_AT or _is_own(match))


def _first_stack(log: str, frames: list["re.Match[str]"]) -> list["re.Match[str]"]:
    """Return the frames of the first traceback: those before the first large gap."""
    stack = frames[:1]
    for frame in frames[1:]:
        if log.count("\n", stack[-1].end(), frame.start()) > NEAR_LINES:
            break
        stack.append(frame)
    return stack


def _is_own(match: "re.Match[str]") -> bool:
    return not is_library(match.group("file"))


def _worded(match: "re.Match[str]") -> str:
    found = match.groupdict()
    words = f"{found['file']}:{found['line']}"
    if found.get("function"):
        words += f" in {found['function']}"
    code = (found.get("code") or "").strip()
    return f"{words}: {code}" if code and not code.startswith(("File ", "^", "~")) else words
