"""Reads TOML or JSON tables and checks every key.

``Table`` returns values by key and type. It records which keys were read, so ``finish`` can report
unknown keys (often misspelt ones). Every error names the file, the key and the expected value.
"""

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtyard.core.errors import TrtyardError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``"; did you mean 'x' or 'y'?"``, or an empty string if nothing is similar."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(one) for one in close)}?" if close else ""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML on every supported Python; ``ValueError`` gives line and column."""
    return tomllib.loads(text)


class Table:
    """One table of a file, with its dotted path."""

    def __init__(
        self, value: object, *, file: Path, path: str, error: type[TrtyardError], hint: str
    ) -> None:
        self._file, self._path, self._error, self._hint = file, path, error, hint
        if not isinstance(value, Mapping):
            raise error(f"{file.name}: {path or 'the file'} must be a table", hint)
        self._value: Mapping[str, object] = value
        self._asked: set[str] = set()

    def fail(self, key: str, problem: str) -> TrtyardError:
        """Return the error for ``key``; the caller raises it."""
        where = ".".join(part for part in (self._path, key) if part)
        return self._error(f"{self._file.name}: {where} {problem}", self._hint)

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def text(self, key: str, pattern: str = r".+", expected: str = "a text") -> str:
        """Return the string at ``key``, which must fully match ``pattern``."""
        value = self._get(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.fail(key, f"must be {expected}, not {value!r}")
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """Return the string at ``key``, which must be one of ``allowed``."""
        value = self.text(key)
        if value not in allowed:
            raise self.fail(key, f"must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return the whole number at ``key``, in ``low..high``."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(key, f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    def texts(
        self, key: str, pattern: str = r".+", expected: str = "texts", *, may_be_empty: bool = False
    ) -> tuple[str, ...]:
        """Return the list of strings at ``key``: each matches ``pattern``, without duplicates."""
        value = self._get(key)
        if not isinstance(value, list) or not (value or may_be_empty):
            raise self.fail(key, f"must be a list of {expected}, not {value!r}")
        for one in value:
            if not isinstance(one, str) or not re.fullmatch(pattern, one):
                raise self.fail(key, f"must hold {expected}, not {one!r}")
        if len(set(value)) != len(value):
            raise self.fail(key, "has a duplicate entry")
        return tuple(value)

    def choices(self, key: str, allowed: Sequence[str]) -> tuple[str, ...]:
        """Return the list of strings at ``key``, each one of ``allowed``."""
        values = self.texts(key)
        for one in values:
            if one not in allowed:
                raise self.fail(key, f"must hold only {', '.join(allowed)}, not {one!r}")
        return values

    def table(self, key: str) -> "Table":
        """Return the table at ``key``."""
        return self._child(self._get(key), key)

    def optional_table(self, key: str) -> "Table":
        """Return the table at ``key``, or an empty one if there is none."""
        self._asked.add(key)
        return self._child(self._value.get(key, {}), key)

    def tables(self, key: str) -> Iterator["Table"]:
        """Yield each table of the list at ``key``."""
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fail(key, f"must be a list, not {value!r}")
        for number, one in enumerate(value):
            yield self._child(one, f"{key}[{number}]")

    def keys(self, pattern: str, expected: str) -> Iterator[str]:
        """Yield the keys in the file's order; each must match ``pattern``."""
        for key in self:
            if not re.fullmatch(pattern, key):
                raise self.fail(key, f"must be {expected}")
            yield key

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in the file's order."""
        return iter(self._value)

    def finish(self) -> None:
        """Raise an error for the first key that was not read."""
        for key in self._value:
            if key not in self._asked:
                raise self.fail(key, "is not a known key" + nearest(key, sorted(self._asked)))

    def _get(self, key: str) -> object:
        self._asked.add(key)
        if key not in self._value:
            raise self.fail(key, "is missing")
        return self._value[key]

    def _child(self, value: object, key: str) -> "Table":
        path = f"{self._path}.{key}" if self._path else key
        return Table(value, file=self._file, path=path, error=self._error, hint=self._hint)
