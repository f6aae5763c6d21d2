"""Parse unified diffs and apply them exactly: no fuzz, no offset.

Works on bytes, so encodings and line endings do not matter. Renames, mode changes, binary files and
deletions are refused.
"""

import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_NEWLINE = b"\\ No newline at end of file\n"
_PASSED_OVER = (b"diff --git ", b"index ", b"new file mode 100644")
_NOWHERE = "/dev/null"


class DiffError(ValueError):
    """The text is not a unified diff that can be applied exactly."""


class MisfitError(ValueError):
    """A hunk does not match the file at its line."""


class Hunk(NamedTuple):
    """Consecutive lines and their replacement, with line endings."""

    old_start: int  # index of the first line, or where to insert if there are no old lines
    old: Tuple[bytes, ...]
    new_start: int
    new: Tuple[bytes, ...]


class FileDiff(NamedTuple):
    """The change of one file; ``old_exists`` is false for a file that the diff adds."""

    path: str  # relative to the root, with slashes
    old_exists: bool
    hunks: Tuple[Hunk, ...]


def parse(data: bytes) -> Tuple[FileDiff, ...]:
    """Return the file changes of a diff that has only files and hunks.

    Raises:
        DiffError: the diff is invalid; the message has the line number.
    """
    reader = _Reader(lines_of(data))
    files = []
    while reader.passes_over():
        files.append(_read_file(reader))
    if not files:
        raise DiffError("line 1: the diff has no file")
    paths = [each.path for each in files]
    if len(set(paths)) != len(paths):
        raise DiffError("the diff has a file twice")
    return tuple(files)


def changed(diff: FileDiff, text: Optional[bytes], reverse: bool = False) -> Optional[bytes]:
    """Return the content of a file after the change; None means that the file does not exist.

    Args:
        diff: the change.
        text: the file's content before.
        reverse: undo the change instead.

    Raises:
        MisfitError: the content differs from the diff; the message has the line.
    """
    must_exist = diff.old_exists or reverse
    if must_exist != (text is not None):
        raise MisfitError("does not exist" if must_exist else "already exists")
    lines = lines_of(text or b"")
    result: List[bytes] = []
    position = 0
    for hunk in diff.hunks:
        start, before = (hunk.new_start, hunk.new) if reverse else (hunk.old_start, hunk.old)
        after = hunk.old if reverse else hunk.new
        found = lines[start : start + len(before)]
        if start > len(lines):
            raise MisfitError(f"ends before line {start + 1}")
        for number, (expected, line) in enumerate(zip(before, found), start + 1):
            if expected != line:
                raise MisfitError(f"has {_shown(line)} in line {number}, not {_shown(expected)}")
        if len(found) < len(before):
            raise MisfitError(f"ends at line {len(lines)}, before {_shown(before[len(found)])}")
        result += lines[position:start]
        result += after
        position = start + len(before)
    result += lines[position:]
    if any(not line.endswith(b"\n") for line in result[:-1]):
        raise MisfitError("ends without a newline, but the diff adds lines after it")
    if reverse and not diff.old_exists:
        if result:
            raise MisfitError(f"has {_shown(result[0])}, which the diff did not add")
        return None
    return b"".join(result)


def lines_of(text: bytes) -> List[bytes]:
    """Return the lines of a text with their newlines; splits at newlines only."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _shown(line: bytes) -> str:
    return repr(line.decode("utf-8", "replace").rstrip("\n"))


class _Reader:
    """Reads the lines of a diff in order."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self._next = 0

    def fail(self, problem: str) -> DiffError:
        return DiffError(f"line {self._next + 1}: {problem}")

    def peek(self) -> Optional[bytes]:
        return self._lines[self._next] if self._next < len(self._lines) else None

    def take(self) -> bytes:
        line = self.peek()
        if line is None:
            raise self.fail("the diff ends too early")
        self._next += 1
        return line

    def passes_over(self) -> bool:
        """Skip to the next file's first line; return whether there is one."""
        line = self.peek()
        while line is not None and line.startswith(_PASSED_OVER):
            self._next += 1
            line = self.peek()
        return line is not None


def _read_file(reader: _Reader) -> FileDiff:
    old, new = _read_path(reader, b"--- "), _read_path(reader, b"+++ ")
    if new == _NOWHERE:
        raise reader.fail("the diff deletes a file")
    if old not in (new, _NOWHERE):
        raise reader.fail(f"the diff renames {old} to {new}")
    hunks: List[Hunk] = []
    shift = end = 0
    while (reader.peek() or b"").startswith(b"@@"):
        hunk = _read_hunk(reader)
        if hunk.old_start < end:
            raise reader.fail("a hunk overlaps the previous one")
        if hunk.new_start != hunk.old_start + shift:
            raise reader.fail("a hunk's line numbers contradict the previous hunks")
        shift += len(hunk.new) - len(hunk.old)
        end = hunk.old_start + len(hunk.old)
        hunks.append(hunk)
    if not hunks:
        raise reader.fail("a file has no hunk")
    if old == _NOWHERE and (len(hunks) != 1 or hunks[0].old):
        raise reader.fail("a new file has old lines")
    return FileDiff(new, old != _NOWHERE, tuple(hunks))


def _read_path(reader: _Reader, mark: bytes) -> str:
    line = reader.peek() or b""
    if not line.startswith(mark):
        raise reader.fail(f"expected {mark.decode()!r}, found {_shown(line)}")
    path = line[len(mark) :].rstrip(b"\n").partition(b"\t")[0].decode("utf-8", "replace")
    if path != _NOWHERE:
        top, _, path = path.partition("/")
        parts = path.split("/")
        if top not in ("a", "b") or not path or {"", ".", ".."}.intersection(parts):
            raise reader.fail("a path must be a/… or b/…, without . and ..")
    reader.take()
    return path


def _read_hunk(reader: _Reader) -> Hunk:
    match = _HUNK.match(reader.peek() or b"")
    if match is None:
        raise reader.fail("not a hunk header")
    reader.take()
    old_start, old_count, new_start, new_count = (
        1 if number is None else int(number) for number in match.groups()
    )
    old: List[bytes] = []
    new: List[bytes] = []
    sides: Tuple[List[bytes], ...] = ()
    while len(old) < old_count or len(new) < new_count or reader.peek() == _NO_NEWLINE:
        line = reader.take()
        if line == _NO_NEWLINE:
            if not sides or not sides[0][-1].endswith(b"\n"):
                raise reader.fail("'No newline at end of file' does not follow a line")
            for side in sides:
                side[-1] = side[-1][:-1]
            continue
        sides = {b" ": (old, new), b"-": (old,), b"+": (new,)}.get(line[:1], ())
        if not sides or not line.endswith(b"\n"):
            raise reader.fail(f"not a line of a hunk: {_shown(line)}")
        for side in sides:
            side.append(line[1:])
    if (len(old), len(new)) != (old_count, new_count):
        raise reader.fail("a hunk has more lines than its header says")
    # If a side has no lines, its number is that of the previous line.
    return Hunk(
        old_start - 1 if old else old_start,
        tuple(old),
        new_start - 1 if new else new_start,
        tuple(new),
    )
