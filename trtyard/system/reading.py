"""Reads TOML or JSON into dataclasses, and makes their JSON schemas.

The annotations of a dataclass describe the keys of a table; a field with a default is an optional
key. Every error names the file, the key and the expected value.
"""

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin
from typing import get_type_hints as hints_of

from trtyard.core.errors import TrtyardError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")


class Matching(NamedTuple):
    """A text must fully match the pattern."""

    pattern: str
    expected: str
    no_login: str = ""  # if set: it has no user or password, and this says where they belong


class Between(NamedTuple):
    """A whole number is in ``low..high``."""

    low: int
    high: int


class FromKey(NamedTuple):
    """The field is not read from the table but made from the table's own key."""

    make: Callable[[str], str]
    expected: str = ""  # if ``make`` raises ``ValueError``


class NotEmpty:
    """A list or table has at least one entry."""


AtLeastOne = Annotated[tuple[_T, ...], NotEmpty]
_ANY_TEXT = Matching(r".+", "a text")


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``"; did you mean 'x' or 'y'?"``, or an empty string if nothing is similar."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(one) for one in close)}?" if close else ""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML on every supported Python; ``ValueError`` gives line and column."""
    return tomllib.loads(text)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads the content of one file."""

    file: Path
    error: type[TrtyardError]
    hint: str
    dashes: bool = False  # the file's keys have "-" instead of the fields' "_"

    def fail(self, path: str, problem: str) -> TrtyardError:
        """Return the error for the key at ``path``; the caller raises it."""
        return self.error(f"{self.file.name}: {path or 'the file'} {problem}", self.hint)

    def read(self, kind: type[_T], value: object) -> _T:
        """Return the file's content as the dataclass ``kind``.

        If ``kind`` has a method ``problems``, it yields keys that contradict each other, and why.
        """
        record: _T = self._record(kind, value, "", "")
        return record

    def _record(self, kind: Any, value: object, path: str, own_key: str) -> Any:
        table, values, known = self._table(value, path), {}, []
        for name, shape, optional in keys_of(kind):
            if isinstance(shape.rule, FromKey):
                try:
                    values[name] = shape.rule.make(own_key)
                except ValueError:
                    raise self.fail(path, f"must be {shape.rule.expected}") from None
                continue
            key = _dashed(name) if self.dashes else name
            known.append(key)
            if key in table:
                values[name] = self._read(shape, table[key], _below(path, key))
            elif not optional:
                raise self.fail(_below(path, key), "is missing")
        for key in table:
            if key not in known:
                raise self.fail(_below(path, key), f"is not a known key{nearest(key, known)}")
        record = kind(**values)
        for key, problem in getattr(record, "problems", tuple)():
            raise self.fail(_below(path, key), problem)
        return record

    def _read(self, shape: "Shape", value: Any, path: str, own_key: str = "") -> Any:
        kind, of, rule = shape
        if kind is str:
            if rule.no_login and "@" in str(value):  # not printed: it may hold a password
                raise self.fail(path, f"must have no user or password: {rule.no_login}")
            if not isinstance(value, str) or not re.fullmatch(rule.pattern, value):
                raise self.fail(path, f"must be {rule.expected}, not {value!r}")
        elif kind is int:
            if type(value) is not int or not rule.low <= value <= rule.high:
                expected = f"a whole number from {rule.low} to {rule.high}"
                raise self.fail(path, f"must be {expected}, not {value!r}")
        elif kind is bool:
            if not isinstance(value, bool):
                raise self.fail(path, f"must be true or false, not {value!r}")
        elif kind is float:
            if type(value) not in (int, float):
                raise self.fail(path, f"must be a number, not {value!r}")
        elif kind is Literal:
            if type(value) is not type(of[0]) or value not in of:
                near = nearest(value, of) if isinstance(value, str) else ""
                raise self.fail(path, f"must be {_choice(of)}, not {value!r}{near}")
        elif kind is tuple:
            return self._list(of[0], value, path, needed=rule is NotEmpty)
        elif kind is Mapping:
            found = {}
            for key, one in self._table(value, path).items():
                self._read(of[0], key, _below(path, key))
                found[key] = self._read(of[1], one, _below(path, key), key)
            return found
        else:
            return self._record(kind, value, path, own_key)
        return value

    def _table(self, value: object, path: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(path, "must be a table")
        return value

    def _list(self, of: "Shape", value: Any, path: str, *, needed: bool) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self.fail(path, f"must be a list, not {value!r}")
        if needed and not value:
            raise self.fail(path, "must not be empty")
        found = tuple(self._read(of, one, f"{path}[{i}]") for i, one in enumerate(value))
        if of.kind in (str, Literal) and len(set(found)) != len(found):
            raise self.fail(path, "has a duplicate entry")
        return found


class Shape(NamedTuple):
    """An annotation, taken apart."""

    kind: Any  # str, int, bool, float, Literal, tuple, Mapping or a dataclass
    of: tuple[Any, ...]  # the shapes of a tuple or Mapping, the values of a Literal
    rule: Any


def shape_of(annotation: Any) -> Shape:
    """Return an annotation, taken apart."""
    rule = _ANY_TEXT if annotation is str else None
    if get_origin(annotation) is Annotated:
        annotation, rule = get_args(annotation)
    kind, of = get_origin(annotation) or annotation, get_args(annotation)
    if kind is not Literal:
        of = tuple(shape_of(one) for one in of if one is not ...)
    return Shape(kind, of, rule)


@cache
def keys_of(kind: Any) -> list[tuple[str, Shape, bool]]:
    """Return name, shape and whether it is optional, for each field of a dataclass."""
    hints = hints_of(kind, include_extras=True)
    return [(one.name, shape_of(hints[one.name]), _has_default(one)) for one in fields(kind)]


def schema_of(shape: Shape) -> dict[str, Any]:
    """Return the JSON schema of a part of a TOML file that ``Reader`` reads."""
    kind, of, rule = shape
    if kind is str:
        return {
            "type": "string",
            "pattern": f"^(?:{rule.pattern})$",
            "description": rule.expected,
        }
    if kind is int:
        return {"type": "integer", "minimum": rule.low, "maximum": rule.high}
    if kind in (bool, float):
        return {"type": "boolean" if kind is bool else "number"}
    if kind is Literal:
        return {"const": of[0]} if len(of) == 1 else {"enum": [*of]}
    if kind is tuple:
        least = {"minItems": 1} if rule is NotEmpty else {}
        return {"type": "array", "items": schema_of(of[0]), **least, "uniqueItems": True}
    if kind is Mapping:
        least = {"minProperties": 1} if rule is NotEmpty else {}
        names = {} if of[0] == shape_of(str) else {"propertyNames": schema_of(of[0])}
        return {"type": "object", **least, **names, "additionalProperties": schema_of(of[1])}
    keys = [
        (_dashed(name), one, optional)
        for name, one, optional in keys_of(kind)
        if not isinstance(one.rule, FromKey)
    ]
    return {
        "type": "object",
        "required": [name for name, _, optional in keys if not optional],
        "properties": {name: schema_of(one) for name, one, _ in keys},
        "additionalProperties": False,
    }


def _dashed(name: str) -> str:
    """Return a field's key; a field such as ``in_`` has the name of a Python keyword."""
    return name.rstrip("_").replace("_", "-")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path and key else path or key


def _choice(allowed: Sequence[object]) -> str:
    one, *others = allowed
    if isinstance(one, int):
        return f"{one} for this version of trtyard"
    return f"one of {', '.join(map(str, allowed))}" if others else str(one)


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
