"""Adds a row to the text of ``versions.toml`` or removes one; comments and layout stay.

A new row is a copy of another row's block with changed values. The new text is read and compared
with the expected rows, so an unsupported layout is an error and never damages the file.
"""

import re
from collections.abc import Iterator, Mapping

from trtyard.core.errors import UsageError
from trtyard.matrix.reader import Matrix, parse_matrix
from trtyard.matrix.row import Row

_HEADER = re.compile(r'\[rows\."(?P<row>[^"]+)"(\.(?P<table>[^]]+))?\]\s*(#.*)?')
_ENTRY = re.compile(
    r'(?P<key>[A-Za-z0-9_-]+)(?P<equals> *= *)(?P<value>"[^"]*"|\d+|\[[^]]*\]) *(?P<comment>#.*)?'
)

_BOUND = ("public-pins",)  # tables of one release's own files


def with_row(matrix: Matrix, text: str, row: Row, *, like: Row, note: str) -> str:
    """Return the text with ``row`` added after ``like``, under the comment ``note``.

    Raises ``UsageError`` if the layout of ``like`` is not supported.
    """
    lines = text.splitlines()
    start, end = _block(lines, like.name)
    block = "\n".join(_rewritten(lines[start:end], like, row)).rstrip()
    before, behind = "\n".join(lines[:end]).rstrip(), "\n".join(lines[end:])
    whole = f"{before}\n\n# --- {note}\n{block}\n\n{behind}".rstrip() + "\n"
    return _checked(whole, matrix, {**matrix.rows, row.name: row}, f"adding row {row.name}")


def without_row(matrix: Matrix, text: str, name: str) -> str:
    """Return the text without the row and the comment above it; errors as ``with_row``."""
    lines = text.splitlines()
    start, end = _block(lines, name)
    while start and lines[start - 1].startswith("#"):
        start -= 1
    whole = "\n".join([*lines[:start], *lines[end:]]).rstrip() + "\n"
    rest = {key: row for key, row in matrix.rows.items() if key != name}
    return _checked(whole, matrix, rest, f"removing row {name}")


def _checked(text: str, matrix: Matrix, expected: Mapping[str, Row], change: str) -> str:
    try:
        rows = dict(parse_matrix(text, matrix.file).rows)
        problem = "" if rows == expected else "the result has wrong values"
    except UsageError as error:
        problem = error.message
    if problem:
        raise UsageError(
            f"{change} failed: the layout of {matrix.file.name} is not supported: {problem}",
            "edit the file by hand, then: ./run lock && ./run render",
        )
    return text


def _block(lines: list[str], name: str) -> tuple[int, int]:
    """Return the first line of the row's tables and the line after the last one.

    A comment above the next row belongs to that row.
    """
    rows = {at: found["row"] for at, line in enumerate(lines) if (found := _HEADER.fullmatch(line))}
    own = [at for at, row in rows.items() if row == name] or [0]
    end = min((at for at in rows if at > own[-1]), default=len(lines))
    while end < len(lines) and lines[end - 1].startswith("#"):
        end -= 1
    return own[0], end


def _rewritten(block: list[str], like: Row, row: Row) -> Iterator[str]:
    old, new = _values(like), _values(row)
    renamed = {
        before: after
        for table in ("packages", "vendor-packages")
        for before, after in zip(old[table], new[table], strict=True)
    }
    table, is_wanted = "", True
    for line in block:
        entry = _ENTRY.fullmatch(line)
        if header := _HEADER.fullmatch(line):
            table = header["table"] or ""
            kind, _, name = table.partition(".")
            is_wanted = (
                kind not in _BOUND
                and (kind != "packages-on" or name.strip('"') in row.packages_on)
                and (kind != "gpu" or bool(row.gpu))
            )
            line = line.replace(f'"{like.name}"', f'"{row.name}"', 1)
        elif table == "image":
            line = re.sub(r'"([^"]+)"', lambda one: f'"{renamed.get(one[1], one[1])}"', line)
        elif entry and entry["key"] in old.get(table, {}):
            key = renamed.get(entry["key"], entry["key"])
            same = new[table][key] == old[table][entry["key"]]
            value = entry["value"] if same else _toml(new[table][key])
            line, comment = f"{key}{entry['equals']}{value}", entry["comment"]
            if comment:  # in the same column, if there is room
                line = f"{line}  ".ljust(entry.start("comment")) + comment
        if is_wanted:
            yield line


def _values(row: Row) -> dict[str, Mapping[str, object]]:
    """Return the values that can differ between a row and its copy, by table and key."""
    return {
        "": {
            "tensorrt": row.tensorrt,
            "python": row.python,
            "cuda": row.cuda,
            "nvcc": row.nvcc,
            "driver": row.driver,
            "opset": row.opset,
            "runs-on": row.runs_on,
            "host-pythons": row.host_pythons,
        },
        "packages": row.packages,
        "vendor-packages": row.vendor_packages,
    }


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int) else f'"{value}"'
