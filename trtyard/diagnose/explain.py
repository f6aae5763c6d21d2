"""``explain``: find the known failures in a log, with cause and fix."""

import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.typed_paths import typed_path
from trtyard.known_failures import KNOWN_FAILURES, KnownFailure, named
from trtyard.known_failures.explanation import Explanation, error_lines, explain, rows_in_words
from trtyard.known_failures.log_places import Place
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.run.environment import make_environment
from trtyard.run.on_host import pipeline_variables
from trtyard.system.processes import CommandError, Word, output_of
from trtyard.system.reading import nearest
from trtyard.system.terminal import say, show

NOTHING_KNOWN = 1  # the exit code, like grep's
_STDIN = "-"
_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class _Log:
    name: str
    text: str


def explain_log(given: str, *, onnx: str, row: str) -> int:
    """Explain a log; return 0 if the failure is known, else 1.

    Args:
        given: the log's file, ``-`` for stdin, the error's text, or a known failure's name.
        onnx: the model's ONNX file, to look up where a node comes from; may be "".
        row: the row whose environment reads that file.
    """
    file = _onnx_file(onnx)
    entry = next((one for one in KNOWN_FAILURES if one.name == given), None)
    if entry is not None:
        show(_entry_in_words(entry))
        return 0
    log = _read(given)
    found = explain(log.text)
    symptoms = _symptoms_meant(log.text) if log.name == "" else []
    facts = _look_up(file, found[0].place if found else Place(), row) if file else {}
    for number, one in enumerate(found):
        show(_in_words(one, log.name, facts if number == 0 else {}, brief=number > 0))
    for symptom in symptoms:
        show(_entry_in_words(symptom))
    for finding in facts.get("symptoms", []):
        show(_finding_in_words(finding))
    if symptoms or any(not one.failure.warning for one in found):
        return 0
    return _say_unknown(log, found, has_findings=bool(facts.get("symptoms")))


def as_is(explanation: Explanation) -> str:
    """Return the rows and TensorRT releases that convert the model unchanged, as text."""
    return rows_in_words(explanation, matrix_toolchains())


def _read(given: str) -> _Log:
    if given == _STDIN:
        return _Log(name="stdin", text=_filled(sys.stdin.buffer.read(), "stdin"))
    if _is_file(given):
        return _Log(name=given, text=_filled(typed_path(given).read_bytes(), given))
    if len(given.split()) > 1:  # the error's text
        return _Log(name="", text=given)
    names = [one.name for one in KNOWN_FAILURES]
    raise UsageError(
        f"{given} is neither a file nor a known failure{nearest(given, names)}",
        "give a file, - for stdin, or the error's text in quotes",
    )


def _is_file(given: str) -> bool:
    try:
        return typed_path(given).is_file()
    except (OSError, UsageError):  # an error's text may be too long for a path, or start with ~
        return False


def _filled(content: bytes, name: str) -> str:
    if not content.strip():
        raise UsageError(
            f"{name} is empty", "./run explain LOG, or: COMMAND 2>&1 | ./run explain -"
        )
    return content.decode("utf-8", errors="replace")


def _onnx_file(given: str) -> Path | None:
    if not given:
        return None
    file = typed_path(given)
    if not file.is_file():
        raise UsageError(f"--onnx {given}: file not found")
    return file


def _symptoms_meant(words: str) -> list[KnownFailure]:
    """Return the failures whose symptom contains every typed word of three or more letters."""
    wanted = {word.strip(".,;:") for word in words.lower().split() if len(word) > 2}
    return [
        one
        for one in KNOWN_FAILURES
        if one.symptom and wanted and all(word in one.symptom.lower() for word in wanted)
    ]


def _look_up(file: Path, place: Place, row: str) -> dict[str, Any]:
    """Return facts from the ONNX file about the node that the log names.

    The row's environment reads the file.
    """
    found, lock = row_and_lock(row)
    if "host" not in found.executors:
        raise UsageError(f"row {found.name} has no environment on the host", "leave out --trt")
    environment = make_environment(found, lock)
    command: list[Word] = [environment.python, "-m", "trtyard.pipeline", "onnx-facts"]
    command += ["--row-file", environment.row_file, "--onnx", file, "--node", place.node]
    command += ["--op", place.op]
    if place.number is not None:
        command += ["--number", str(place.number)]
    try:
        env = pipeline_variables(environment=environment)
        facts: dict[str, Any] = json.loads(output_of(command, env=env))
    except CommandError as error:
        words = error.tail.strip().removeprefix("trtyard: ")
        raise UsageError(words) if error.code == UsageError.exit_code else error from None
    except ValueError as error:
        raise EnvironmentLacksError(
            f"cannot read the output of row {found.name}'s environment: {error}"
        ) from None
    return facts


def _in_words(one: Explanation, log: str, facts: dict[str, Any], *, brief: bool) -> str:
    kind = "warning: " if one.failure.warning else ""
    where = f", line {one.line} of {log}" if log else ""
    lines = [f"{kind}{one.failure.name}{where}"]
    if not brief:
        lines.append(f"  {one.words}")
    lines += _columns(_details(one, facts))
    if not brief:
        lines += _columns([("source", source) for source in one.failure.sources])
    return "\n".join(lines) + "\n"


def _details(one: Explanation, facts: dict[str, Any]) -> list[tuple[str, str]]:
    place, nodes = one.place, facts.get("nodes", [])
    details = []
    if len(nodes) == 1:
        place = replace_place(place, nodes[0])
    node = f"node {place.node}" if place.node else ""
    number = f"number {place.number}" if place.number is not None else ""
    details.append(("op", ", ".join(part for part in (place.op, node, number) if part)))
    details.append(("at", place.python))
    if len(nodes) > 1:
        details += [("at", f"{each['node']}: {each['origin']}") for each in nodes]
        if facts["more"]:
            details.append(("at", f"and {facts['more']} more nodes"))
    details += [("why", one.failure.cause), ("fix", one.failure.hint), ("rows", as_is(one))]
    return details


def replace_place(place: Place, node: dict[str, str]) -> Place:
    """Return the place with the node's op, name and source line from the ONNX file."""
    return place._replace(
        op=node["op"], node=node["node"] or place.node, python=node["origin"] or place.python
    )


def _entry_in_words(entry: KnownFailure) -> str:
    details = [
        ("shows", entry.symptom),
        ("why", entry.cause),
        ("fix", entry.hint),
        ("rows", as_is(Explanation(entry, 0, "", Place(), entry.affected))),
        *(("source", source) for source in entry.sources),
    ]
    return "\n".join([entry.name, *_columns(details)]) + "\n"


def _columns(details: list[tuple[str, str]]) -> list[str]:
    """Return a wrapped paragraph for each detail, with its name in the left column."""
    wrapped = textwrap.TextWrapper(
        width=_WIDTH, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
    )
    return [
        wrapped.fill(f"  {name if number == 0 or name != details[number - 1][0] else '':<7}{value}")
        for number, (name, value) in enumerate(details)
        if value
    ]


def _finding_in_words(finding: dict[str, str]) -> str:
    entry = named(finding["name"])
    detail = finding["detail"].replace("\n", "\n  ")
    lines = [f"in the file: {entry.name}", f"  {detail}"]
    return "\n".join([*lines, *_columns([("why", entry.cause), ("fix", entry.hint)])]) + "\n"


def _say_unknown(log: _Log, found: list[Explanation], *, has_findings: bool) -> int:
    explained = {one.words for one in found}
    lines = [line for line in error_lines(log.text) if line not in explained]
    if not lines and (found or has_findings):
        return 0
    say("no known failure found" if lines or not found else "no error found, only warnings")
    if lines:
        show("lines that look like errors:")
        for line in lines:
            show(f"  {line}")
    else:
        show("no line looks like an error")
    return NOTHING_KNOWN
