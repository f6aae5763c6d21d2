"""The row's facts as the pipeline needs them, read from ``row.json``."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

from trtyard.core.errors import UsageError

EXPORTERS = ("dynamo", "torchscript")


class Row(NamedTuple):
    """One exact toolchain."""

    name: str
    tensorrt: str
    flavour: str  # "rtx" or "full"
    exporter: str  # "dynamo" or "torchscript"
    opset: int
    cuda: str
    architectures: Tuple[str, ...]  # what the plugins are compiled for, such as "89"
    runs_on: Tuple[str, ...]  # compute capabilities that load this row's engines, such as "8.9"
    pycuda_problem: Optional[str] = None  # why pycuda could not be built here, if that was tried


def exporting(row: Row, exporter: Optional[str] = None, opset: Optional[int] = None) -> Row:
    """Return the row with another exporter or opset than its own; None leaves it."""
    return row._replace(exporter=exporter or row.exporter, opset=opset or row.opset)


def read_row(file: Path) -> Row:
    """Read ``row.json``.

    Raises:
        UsageError: it is missing, is not JSON or lacks a key.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        row = Row(
            name=_text(value, "name"),
            tensorrt=_text(value, "tensorrt"),
            flavour=_text(value, "flavour"),
            exporter=_text(value, "exporter"),
            opset=int(value["opset"]),
            cuda=_text(value, "cuda"),
            architectures=tuple(map(str, value["architectures"])),
            runs_on=tuple(map(str, value["runs_on"])),
            pycuda_problem=value.get("pycuda_problem"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"cannot read the row's facts from {file}: {error!r}", "./run convert makes that file"
        ) from error
    if row.exporter not in EXPORTERS:
        raise UsageError(f"{file}: exporter is {row.exporter!r}, not one of {EXPORTERS}")
    return row


def _text(value: Any, key: str) -> str:
    found = value[key]
    if not isinstance(found, str):
        raise TypeError(f"{key} must be text")
    return found
