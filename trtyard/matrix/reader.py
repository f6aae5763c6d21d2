"""Reads and checks the matrix, ``versions.toml``.

A row is one exact toolchain. The reader rejects unknown keys, wrong types and impossible values;
the error names file, key and hint. The rest of the code can rely on a ``Row`` being valid.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from trtyard.core.errors import UsageError
from trtyard.matrix.row import GPU_PACKAGE, Row
from trtyard.matrix.rules import Problem, problems
from trtyard.system.reading import Matching, NotEmpty, Reader, nearest, parse_toml

DEFAULT_ALIAS = "default"
_RowName = Annotated[
    str,
    Matching(r"(rtx-)?\d+\.\d+", "named after its TensorRT release, like 10.16 or rtx-1.7"),
]


@dataclass(frozen=True, kw_only=True)
class MatrixFile:
    """The keys of ``versions.toml``, each checked alone; its JSON schema is made from this."""

    schema: Literal[1]
    rows: Annotated[Mapping[_RowName, Row], NotEmpty]
    default: _RowName


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All rows, in the file's order."""

    file: Path
    default: str
    rows: Mapping[str, Row]

    def aliases(self) -> dict[str, str]:
        """Return row names by alias: ``default``, and shortened names for their newest row."""
        found = {DEFAULT_ALIAS: self.default}
        for name in sorted(self.rows, key=_release_of):  # a newer row replaces an older one
            for shorter in _shortened(name):
                found[shorter] = name
        return {alias: name for alias, name in found.items() if alias not in self.rows}

    def row(self, name: str) -> Row:
        """Return the row with this name or alias; if none has it, ``UsageError`` lists similar."""
        aliases = self.aliases()
        row = self.rows.get(aliases.get(name, name))
        if row is None:
            known = [*self.rows, *aliases]
            raise UsageError(
                f"no row {name!r} in {self.file.name}{nearest(name, known)}",
                f"rows: {', '.join(self.rows)}; aliases: {', '.join(aliases)}; see: ./run matrix",
            )
        return row


def read_matrix(file: Path) -> Matrix:
    """Return the checked matrix of ``file``; ``UsageError`` names file, key and hint."""
    try:
        return parse_matrix(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        raise UsageError(f"{file} is missing", "git checkout -- versions.toml") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name} is not TOML: {error}", f"fix {file}") from None


def parse_matrix(text: str, file: Path) -> Matrix:
    """Return the checked matrix of a text, the content of ``file``; errors as ``read_matrix``."""
    try:
        value = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{file.name} is not TOML: {error}", f"fix {file}") from None
    reader = Reader(
        file=file, error=UsageError, hint=f"fix {file}; keys: docs/matrix.md", dashes=True
    )
    found = reader.read(MatrixFile, value)
    for name, row in found.rows.items():
        for key, reason in _problems(row):
            raise reader.fail(f"rows.{name}.{key}", reason)
    if found.default not in found.rows:
        near = nearest(found.default, [*found.rows])
        raise reader.fail("default", f"must be one of {', '.join(found.rows)}{near}")
    return Matrix(file=file, default=found.default, rows=found.rows)


def _problems(row: Row) -> Iterator[Problem]:
    """Yield the keys of the row that contradict each other, and why."""
    prefix, _, release = row.name.rpartition("-")
    if not f"{row.tensorrt}.".startswith(f"{release}."):
        yield "tensorrt", f"is {row.tensorrt}, but the row's name is {row.name}"
    if (prefix == "rtx") != (row.flavour == "rtx"):
        yield "flavour", f"is {row.flavour}, but the row's name is {row.name}"
    for needed in ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow"):
        if needed not in row.packages:
            yield "packages", f"must pin {needed}"
    if ("host" in row.executors) != bool(row.host_pythons):
        yield "host-pythons", "must be set if executors has host, and only then"
    yield from _tensorrt_problems(row)
    for python in row.packages_on:
        if python not in row.pythons:
            yield "packages-on", f"names Python {python}, which the row does not have"
    for name in row.sources:
        if name in row.packages:
            yield "sources", f"and packages both name {name}"
    if row.gpu and GPU_PACKAGE not in row.gpu:
        yield "gpu", f"must pin {GPU_PACKAGE}"
    for name in row.gpu:
        if name in row.packages:
            yield "gpu", f"and packages both name {name}"
    yield from problems(row)


def _tensorrt_problems(row: Row) -> Iterator[Problem]:
    """Yield the problems if the row does not pin TensorRT where ``tensorrt-from`` says."""
    pins = {name: pin for name, pin in row.packages.items() if name.startswith("tensorrt")}
    match row.tensorrt_from:
        case "packages":
            if not pins or not all(_is_of(pin, row.tensorrt) for pin in pins.values()):
                yield "packages", f"must pin the TensorRT packages to {row.tensorrt}"
        case "vendor-wheels":
            if not any(_is_of(pin, row.tensorrt) for pin in row.vendor_packages.values()):
                yield "vendor-packages", f"must pin TensorRT {row.tensorrt}"
        case "vendor-debs":
            releases = {pin.partition("-")[0] for pin in row.vendor_debs.values()}
            if releases != {row.tensorrt}:
                yield "vendor-debs", f"must all be of TensorRT {row.tensorrt}"
        case "base-image":
            if row.base.contents != "vendor":
                yield "base.contents", "must be vendor: the image provides TensorRT"
    for filename, one in row.public_pins.items():
        if row.vendor_packages.get(one.package) != one.version:
            yield "public-pins", f"has {filename}, which is not in vendor-packages"
    for name in row.vendor_packages:
        if name in row.packages:
            yield "vendor-packages", f"and packages both name {name}"


def _is_of(pin: str, release: str) -> bool:
    """Return whether the package version ``pin`` belongs to the TensorRT release.

    Some versions omit the last number (8.6.1 for 8.6.1.6), some are repackaged (.post1).
    """
    return f"{release}.".startswith(f"{pin.partition('.post')[0]}.")


def _shortened(name: str) -> list[str]:
    """Return the shorter names of a row: ``rtx-1`` and ``rtx`` for ``rtx-1.7``."""
    pieces = re.split(r"([-.])", name)
    return ["".join(pieces[:end]) for end in range(len(pieces) - 2, 0, -2)]


def _release_of(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))
