"""The text of ``versions.toml`` with a row more or a row less; comments and layout stay.

A new row is the block of the row it is like, with the values that differ put in. The result is read
again and compared with what was meant, so a layout that is not known here is refused, not mangled.
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
    """Return the text with the row behind ``like``, under a comment line ``note``.

    ``UsageError`` where ``like`` is laid out in a way that is not known here.
    """
    lines = text.splitlines()
    start, end = _block(lines, like.name)
    block = "\n".join(_rewritten(lines[start:end], like, row)).rstrip()
    before, behind = "\n".join(lines[:end]).rstrip(), "\n".join(lines[end:])
    whole = f"{before}\n\n# --- {note}\n{block}\n\n{behind}".rstrip() + "\n"
    return _proven(whole, matrix, {**matrix.rows, row.name: row}, f"row {like.name} is copied")


def without_row(matrix: Matrix, text: str, name: str) -> str:
    """Return the text without the row and the comment above it; ``UsageError`` as above."""
    lines = text.splitlines()
    start, end = _block(lines, name)
    while start and lines[start - 1].startswith("#"):
        start -= 1
    whole = "\n".join([*lines[:start], *lines[end:]]).rstrip() + "\n"
    rest = {key: row for key, row in matrix.rows.items() if key != name}
    return _proven(whole, matrix, rest, f"row {name} is cut out")


def _proven(text: str, matrix: Matrix, expected: Mapping[str, Row], done: str) -> str:
    try:
        problem = "" if dict(parse_matrix(text, matrix.file).rows) == expected else "other values"
    except UsageError as error:
        problem = error.message
    if problem:
        raise UsageError(
            f"{matrix.file.name} does not say what it should once {done}: {problem}",
            "its layout is not the usual one; edit it by hand, then: ./run lock && ./run render",
        )
    return text


def _block(lines: list[str], name: str) -> tuple[int, int]:
    """Return where the row's tables begin and end; the comment above the next row is the next's."""
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
            is_wanted = kind not in _BOUND and (
                kind != "packages-on" or name.strip('"') in row.packages_on
            )
            line = line.replace(f'"{like.name}"', f'"{row.name}"', 1)
        elif table == "image":
            line = re.sub(r'"([^"]+)"', lambda one: f'"{renamed.get(one[1], one[1])}"', line)
        elif entry and entry["key"] in old.get(table, {}):
            key = renamed.get(entry["key"], entry["key"])
            same = new[table][key] == old[table][entry["key"]]
            value = entry["value"] if same else _toml(new[table][key])
            line, comment = f"{key}{entry['equals']}{value}", entry["comment"]
            if comment:  # begins where it did, if there is room
                line = f"{line}  ".ljust(entry.start("comment")) + comment
        if is_wanted:
            yield line


def _values(row: Row) -> dict[str, Mapping[str, object]]:
    """Return what may differ between a row and one like it: table, key, value."""
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
