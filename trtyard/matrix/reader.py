"""Reads and checks the matrix, ``versions.toml``.

A row is one exact toolchain. The reader rejects unknown keys, wrong types and impossible values;
the error names file, key and hint. The rest of the code can rely on a ``Row`` being valid.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from trtyard.core.errors import UsageError
from trtyard.matrix.row import (
    UNRESOLVED,
    BaseContents,
    BaseImage,
    Debs,
    DigestKind,
    ExecutorName,
    Exporter,
    Flavour,
    ImageParts,
    Parser,
    PluginShell,
    PublicPin,
    Row,
    TensorrtFrom,
)
from trtyard.matrix.rules import problems
from trtyard.system.reading import Table, nearest, parse_toml

MATRIX_SCHEMA = 1
DEFAULT_ALIAS = "default"

_PYTHON = r"3\.\d{1,2}"
_RELEASE = r"\d+(\.\d+)+"
# PEP 440's public versions without epochs; PEP 503's normalised names.
_VERSION = r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\+[a-z0-9.]+)?"
_PACKAGE = r"[a-z0-9]+(-[a-z0-9]+)*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_DEB_VERSION = r"[0-9][\w.+:~-]*"  # Debian policy 5.6.12
_REPOSITORY = r"[\w.-]+/[\w.-]+"
_COMMIT = r"[0-9a-f]{40}"
_DEB = r"[a-z0-9][a-z0-9+.-]+"  # Debian policy 5.6.1
ROW_NAME = re.compile(r"(?:(?P<prefix>rtx)-)?(?P<release>\d+\.\d+)")


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
    top = Table(
        value, file=file, path="", error=UsageError, hint=f"fix {file}; keys: docs/matrix.md"
    )
    schema = top.integer("schema", 1, 999)
    if schema != MATRIX_SCHEMA:
        raise top.fail("schema", f"is {schema}, but this version of trtyard reads {MATRIX_SCHEMA}")
    rows_table = top.table("rows")
    rows = {name: _read_row(name, rows_table.table(name)) for name in rows_table}
    default = top.choice("default", list(rows))
    top.finish()
    return Matrix(file=file, default=default, rows=rows)


def _read_row(name: str, table: Table) -> Row:
    match = ROW_NAME.fullmatch(name)
    if match is None:
        raise table.fail("", "must be named after its TensorRT release, like 10.16 or rtx-1.7")
    row = read_keys(name, table)
    _check_row(row, match, table)
    return row


def read_keys(name: str, table: Table) -> Row:
    """Return the row with each key checked alone; ``versions.schema.json`` is made from this."""
    row = Row(
        name=name,
        tensorrt=table.text("tensorrt", _RELEASE, "a version like 10.16.1.11"),
        flavour=cast(Flavour, table.choice("flavour", get_args(Flavour))),
        tensorrt_from=cast(TensorrtFrom, table.choice("tensorrt-from", get_args(TensorrtFrom))),
        python=table.text("python", _PYTHON, "a Python like 3.11"),
        cuda=table.text("cuda", r"\d+\.\d+", "a CUDA release like 13.0"),
        nvcc=table.text("nvcc" if "nvcc" in table else "cuda", r"\d+\.\d+", "a CUDA release"),
        driver=table.text("driver", _RELEASE, "a driver like 580.65.06"),
        exporter=cast(Exporter, table.choice("exporter", get_args(Exporter))),
        opset=table.integer("opset", 7, 99),
        parser=cast(Parser, table.choice("parser", get_args(Parser))),
        plugin_shells=cast(
            tuple[PluginShell, ...], table.choices("plugin-shells", get_args(PluginShell))
        ),
        architectures=table.texts("architectures", r"\d{2,3}", 'architectures like "89"'),
        runs_on=table.texts("runs-on", r"\d{1,2}\.\d", 'compute capabilities like "8.9"'),
        executors=cast(
            tuple[ExecutorName, ...], table.choices("executors", get_args(ExecutorName))
        ),
        host_pythons=table.texts("host-pythons", _PYTHON, "Pythons like 3.11", may_be_empty=True),
        glibc=table.text("glibc", r"2\.\d{1,2}", "a glibc release like 2.28"),
        base=_read_base(table.table("base")),
        debs=_read_debs(table.table("debs")),
        image=_read_image(table.table("image")),
        packages=_read_pins(table.table("packages")),
        packages_on=_read_packages_on(table.optional_table("packages-on")),
        sources=_read_pins(table.optional_table("sources")),
        vendor_packages=_read_pins(table.optional_table("vendor-packages")),
        public_pins=_read_public_pins(table.optional_table("public-pins")),
        vendor_debs=_read_pairs(
            table.optional_table("vendor-debs"), _DEB, "package names", _DEB_VERSION, "a version"
        ),
        commits=_read_pairs(
            table.optional_table("commits"), _REPOSITORY, "owner/name", _COMMIT, "40 hex digits"
        ),
        terms=table.text("terms") if "terms" in table else "",
    )
    table.finish()
    return row


def _read_base(table: Table) -> BaseImage:
    base = BaseImage(
        image=table.text("image", r"[a-z0-9][a-z0-9./_-]*:[\w][\w.-]*", "an image with its tag"),
        suite=table.text("suite", r"[a-z]+", "a codename like bookworm"),
        contents=cast(BaseContents, table.choice("contents", get_args(BaseContents))),
        digest=table.text("digest", rf"{_DIGEST}|{UNRESOLVED}", "sha256: and 64 hex digits"),
        digest_kind=cast(DigestKind, table.choice("digest-kind", get_args(DigestKind))),
        platform_digest=table.text("platform-digest", _DIGEST, "sha256: and 64 hex digits")
        if "platform-digest" in table
        else "",
    )
    table.finish()
    if base.platform_digest and base.digest_kind != "index":
        raise table.fail("platform-digest", "is only valid with digest-kind index")
    if base.image.endswith(":latest"):
        raise table.fail("image", "must name a release, not latest")
    return base


def _read_debs(table: Table) -> Debs:
    debs = Debs(
        base=table.texts("base", _DEB, "package names", may_be_empty=True),
        runtime=table.texts("runtime", _DEB, "package names", may_be_empty=True),
        build=table.texts("build", _DEB, "package names", may_be_empty=True),
        unpacked=table.texts("unpacked", _DEB, "package names") if "unpacked" in table else (),
        components=table.texts("components", r"[a-z-]+", "components like non-free")
        if "components" in table
        else (),
    )
    table.finish()
    return debs


def _read_image(table: Table) -> ImageParts:
    parts = ImageParts(
        compile_with=table.texts("compile-with", _PACKAGE, "package names", may_be_empty=True),
        leave_out=table.texts("leave-out", _PACKAGE, "package names", may_be_empty=True),
        runtime=table.texts("runtime", _PACKAGE, "package names", may_be_empty=True),
        tools=table.texts("tools", _PACKAGE, "package names") if "tools" in table else (),
    )
    table.finish()
    return parts


def _read_pins(table: Table) -> dict[str, str]:
    names = list(table.keys(_PACKAGE, "a package name in lower case with single hyphens"))
    return {name: table.text(name, _VERSION, "one exact version") for name in names}


def _read_public_pins(table: Table) -> dict[str, PublicPin]:
    return {name: _read_public_pin(name, table.table(name)) for name in table}


def _read_public_pin(name: str, table: Table) -> PublicPin:
    try:
        package, version, _, _ = parse_wheel_filename(name)
    except InvalidWheelFilename:
        raise table.fail("", "must be the file name of a wheel") from None
    pin = PublicPin(
        package=str(package),
        version=str(version),
        sha256=table.text("sha256", r"[0-9a-f]{64}", "64 hex digits"),
        size=table.integer("size", 1, 1 << 40) if "size" in table else 0,
        origin=table.text("origin", r"[^\t\n]+", "a short note on where the hash was found"),
    )
    table.finish()
    return pin


def _read_pairs(table: Table, key: str, keys: str, value: str, expected: str) -> dict[str, str]:
    names = list(table.keys(key, f"one of {keys}"))
    return {name: table.text(name, value, expected) for name in names}


def _read_packages_on(table: Table) -> dict[str, dict[str, str]]:
    return {python: _read_pins(table.table(python)) for python in table}


def _check_row(row: Row, match: "re.Match[str]", table: Table) -> None:
    """Raise the error for keys of the row that contradict each other."""
    if not f"{row.tensorrt}.".startswith(f"{match['release']}."):
        raise table.fail("tensorrt", f"is {row.tensorrt}, but the row's name is {row.name}")
    if (match["prefix"] == "rtx") != (row.flavour == "rtx"):
        raise table.fail("flavour", f"is {row.flavour}, but the row's name is {row.name}")
    for needed in ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow"):
        if needed not in row.packages:
            raise table.fail("packages", f"must pin {needed}")
    if ("host" in row.executors) != bool(row.host_pythons):
        raise table.fail("host-pythons", "must be set if executors has host, and only then")
    _check_tensorrt(row, table)
    for python in row.packages_on:
        if python not in row.pythons:
            raise table.fail("packages-on", f"names Python {python}, which the row does not have")
    for name in row.sources:
        if name in row.packages:
            raise table.fail("sources", f"and packages both name {name}")
    for key, reason in problems(row):
        raise table.fail(key, reason)


def _check_tensorrt(row: Row, table: Table) -> None:
    """Check that the row pins TensorRT in the place that ``tensorrt-from`` names."""
    pins = {name: pin for name, pin in row.packages.items() if name.startswith("tensorrt")}
    match row.tensorrt_from:
        case "packages":
            if not pins or not all(_is_of(pin, row.tensorrt) for pin in pins.values()):
                raise table.fail("packages", f"must pin the TensorRT packages to {row.tensorrt}")
        case "vendor-wheels":
            if not any(_is_of(pin, row.tensorrt) for pin in row.vendor_packages.values()):
                raise table.fail("vendor-packages", f"must pin TensorRT {row.tensorrt}")
        case "vendor-debs":
            releases = {pin.partition("-")[0] for pin in row.vendor_debs.values()}
            if releases != {row.tensorrt}:
                raise table.fail("vendor-debs", f"must all be of TensorRT {row.tensorrt}")
        case "base-image":
            if row.base.contents != "vendor":
                raise table.fail("base.contents", "must be vendor: the image provides TensorRT")
    for filename, one in row.public_pins.items():
        if row.vendor_packages.get(one.package) != one.version:
            raise table.fail("public-pins", f"has {filename}, which is not in vendor-packages")
    for name in row.vendor_packages:
        if name in row.packages:
            raise table.fail("vendor-packages", f"and packages both name {name}")


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
