"""Read report.json into the records of ``trtyard.core.report``, and make its JSON schema.

Both use the type annotations of the records.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.files import write_text
from trtyard.core.report import JSON_FILE, SCHEMA, ErrorHistogram, Report
from trtyard.system.terminal import say
from trtyard.system.uv import ROOT

SCHEMA_FILE = Path("trtyard/report/report.schema.json")

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_KINDS: dict[object, str] = {str: "string", bool: "boolean", int: "integer"}
_CONVERT_AGAIN = "write it again: ./run convert"


def read_report(path: Path) -> Report:
    """Return the report in ``path``, a report.json or its folder.

    Raises:
        UsageError: the file is missing, is not a report, or has another schema version.
    """
    file = path / JSON_FILE if path.is_dir() else path
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{file} does not exist", "give an output folder of ./run convert"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not a report: {error}", _CONVERT_AGAIN) from None
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise UsageError(f"{file} has schema {found!r}, expected {SCHEMA}", _CONVERT_AGAIN)
    return report_of(value, str(file))


def report_of(value: Mapping[str, Any], place: str = JSON_FILE) -> Report:
    """Return the report for ``value``, the output of ``report_value``.

    Raises:
        UsageError: a key is missing or its value has another type; the message has its path.
    """
    report: Report = _read(Report, value, place)
    return report


def report_schema() -> dict[str, Any]:
    """Return the JSON schema (draft-07) of report.json."""
    schema = _schema(Report)
    code = {"type": "object", "properties": {"exit_code": {"type": "integer"}}}
    first = {"schema": {"const": SCHEMA}, "verdict": {**code, "required": ["exit_code"]}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "trtyard report.json",
        **schema,
        "properties": {**first, **schema["properties"]},
        "required": ["schema", "verdict", *schema["required"]],
    }


def write_schema(*, check: bool) -> None:
    """Write the schema's file; with ``check`` only compare it.

    Raises:
        IntegrityError: with ``check``, the file differs.
    """
    text = json.dumps(report_schema(), indent=2) + "\n"
    file = ROOT / SCHEMA_FILE
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return
    if check:
        raise IntegrityError(f"{SCHEMA_FILE} differs from trtyard/core/report.py", "./run render")
    write_text(file, text)
    say(f"{SCHEMA_FILE} written")


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Union:  # Optional
        return None if value is None else _read(parts[0], value, place)
    if kind is ErrorHistogram:
        return _histogram(value, place)
    if hasattr(kind, "_fields"):
        return _record(kind, _of_type(dict, value, place), place)
    if origin is tuple:
        values = _of_type(list, value, place)
        if parts[-1] is Ellipsis:
            return tuple(_read(parts[0], one, f"{place}[{i}]") for i, one in enumerate(values))
        if len(values) != len(parts):
            raise UsageError(f"{place} has {len(values)} values, expected {len(parts)}")
        return tuple(_read(one, each, place) for one, each in zip(parts, values, strict=True))
    if origin is not None:  # Mapping
        pairs = _of_type(dict, value, place).items()
        return {name: _read(parts[1], one, f"{place}.{name}") for name, one in pairs}
    if kind is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        return float(_of_type((int, float), value, place))
    return value if kind is Any else _of_type(kind, value, place)


def _record(kind: Any, value: dict[str, Any], place: str) -> Any:
    missing = [one for one in kind._fields if one not in value and one not in kind._field_defaults]
    if missing:
        raise UsageError(f"{place} lacks {', '.join(missing)}", _CONVERT_AGAIN)
    hints = get_type_hints(kind)
    return kind(
        **{
            name: _read(hints[name], value[name], f"{place}.{name}")
            for name in kind._fields
            if name in value
        }
    )


def _histogram(value: Any, place: str) -> ErrorHistogram:
    found = _of_type(dict, value, place)
    try:
        bins = found["bins"]
        lowest = round(math.log10(bins[0]["from"])) if bins else 0
        counts = tuple(int(one["count"]) for one in bins)
        return ErrorHistogram(found["exact"], lowest, counts, found["non_finite"])
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{place} is not a histogram", _CONVERT_AGAIN) from None


def _of_type(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = getattr(kind, "__name__", "number")
        raise UsageError(f"{place} is {value!r:.60}, expected {names}", _CONVERT_AGAIN)
    return value


def _schema(kind: Any) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Union:
        return {"anyOf": [_schema(parts[0]), {"type": "null"}]}
    if kind is ErrorHistogram:
        names = {"from": "number", "to": "number", "count": "integer"}
        bin_ = {
            "type": "object",
            "properties": {name: {"type": one} for name, one in names.items()},
        }
        whole = {"type": "integer"}
        found = {"exact": whole, "bins": {"type": "array", "items": bin_}, "non_finite": whole}
        return {"type": "object", "properties": found, "required": list(found)}
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return {
            "type": "object",
            "properties": {name: _schema(hints[name]) for name in kind._fields},
            "required": [name for name in kind._fields if name not in kind._field_defaults],
        }
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return {"type": "array", "items": _schema(parts[0])}
        return {"type": "array", "items": [_schema(one) for one in parts]}
    if origin is not None:
        return {"type": "object", "additionalProperties": _schema(parts[1])}
    if kind is float:
        return {"anyOf": [{"type": "number"}, {"enum": list(_NON_FINITE)}]}
    return {"type": _KINDS[kind]} if kind in _KINDS else {}
