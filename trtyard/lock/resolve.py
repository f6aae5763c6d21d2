"""Resolves a row to its lock, once for each of its Pythons.

uv can resolve for Pythons that are not installed. For each package the lock has the wheel that an
installer on Linux x86_64 with the row's glibc would choose; a package without such a wheel must be
in the row's ``sources``.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from trtyard.core.errors import (
    EnvironmentLacksError,
    IntegrityError,
    TrtyardError,
    UsageError,
)
from trtyard.fetching.mirrors import read_mirrors
from trtyard.fetching.vendor import vendor_files
from trtyard.lock.base_debs import resolve_on
from trtyard.lock.base_digest import resolve_base
from trtyard.lock.debs import resolve_debs
from trtyard.lock.file import Artifact, Deb, LockedBase, LockedRow, Unresolved, check_row
from trtyard.matrix.row import UNRESOLVED, Row
from trtyard.system.processes import CommandError, output_of
from trtyard.system.reading import parse_toml
from trtyard.system.terminal import say
from trtyard.system.uv import uv

# Words of uv when an index does not answer (as opposed to an index that lacks a release).
_NO_NETWORK = (
    "dns error",
    "error sending request",
    "timed out",
    "connection refused",
    "failed to fetch",
)
# Words of uv when an index has only a stub of a vendor's package, other releases, or nothing.
_NO_WHEEL = ("no usable wheels", "there is no version of", "not found in the package registry")
# Words of uv when a package has wheels, but none for this Python.
_OTHER_PYTHONS = "no wheels with a matching Python"
# The glibc minor release of the older platform tags (PEP 513, 571, 599).
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


def resolve_row(
    row: Row, before: LockedRow | None = None, *, shared: LockedRow | None = None
) -> LockedRow:
    """Return the lock of a row; needs the network. ``UsageError`` if its pins contradict.

    Python packages that the row does not pin keep the release in ``before`` if it still fits;
    without ``before`` they get their newest release. Entries that cannot be reached become
    ``unresolved`` with the reason. If ``shared`` is given, a row with the same base and
    distribution packages, its entries are copied, so that both images have the same layers.
    """
    vendor, unresolved = _vendor_wheels(row)
    wheels: dict[str, Artifact] = {one.filename: one for one in vendor}
    sdists: dict[str, Artifact] = {}
    for python in row.pythons:
        for package in _compiled(row, python, _releases(before, python)):
            is_source = package["name"] in row.sources
            artifact = _sdist(package) if is_source else _wheel_for(row, package, python)
            kept = sdists if is_source else wheels
            earlier = kept.get(artifact.filename)
            pythons = {python, *(earlier.pythons if earlier else ())}
            ordered = tuple(one for one in sorted(row.pythons, key=_minor) if one in pythons)
            kept[artifact.filename] = replace(artifact, pythons=ordered)
    if shared is None:
        base, no_base = resolve_base(row.base, mirror=read_mirrors().image(row.base.image))
        debs, no_debs = _debs(row, base)
    else:
        base, debs = shared.base, shared.debs
        no_base = tuple(one for one in shared.unresolved if one.kind == "base-image")
        no_debs = tuple(one for one in shared.unresolved if one.kind == "debs")
    locked = LockedRow(
        name=row.name,
        matrix_sha256=row.sha256(),
        base=base,
        wheels=tuple(wheels[name] for name in sorted(wheels)),
        sdists=tuple(sdists[name] for name in sorted(sdists)),
        debs=debs,
        patches=(),
        unresolved=(*no_base, *unresolved, *no_debs),
        snapshot=shared.snapshot if shared else "",
    )
    locked = replace(locked, gpu=resolve_gpu(row, locked))
    check_row(row, locked)
    return locked


def resolve_gpu(row: Row, locked: LockedRow) -> tuple[Artifact, ...]:
    """Return the wheels of ``row.gpu`` and what they need beside ``locked``; needs the network.

    A Python of the host executor without such a wheel gets none.
    """
    found: dict[str, Artifact] = {}
    for python in row.pythons if row.gpu else ():
        have = {one.name: one.version for one in locked.wheels_for(python)}
        try:
            packages = compiled_packages(
                _pins(row.gpu), python, row.glibc, constraints=have, only_wheels=True
            )
        except CommandError as error:
            output = " ".join(error.tail.split())  # uv wraps its lines
            if python != row.python and _OTHER_PYTHONS in output:
                continue
            raise _unsolved(row, python, error) from None
        for package in packages:
            if canonicalize_name(package["name"]) not in have:
                wheel = _wheel_for(row, package, python)
                earlier = found.get(wheel.filename)
                pythons = (*(earlier.pythons if earlier else ()), python)
                found[wheel.filename] = replace(wheel, pythons=pythons)
    return tuple(
        replace(found[name], pythons=tuple(sorted(found[name].pythons, key=_minor)))
        for name in sorted(found)
    )


def _vendor_wheels(row: Row) -> tuple[list[Artifact], tuple[Unresolved, ...]]:
    """Return the wheels of the vendor's own index, and the unresolved ones.

    PyPI has only stubs with these names, which would download the real files without a hash. If the
    vendor's index cannot be reached, the hashes come from the row's public pins.
    """
    found, missing = [], []
    for name, version in row.vendor_packages.items():
        package = _of_an_index(row, name, version) or _of_its_vendor(name, version)
        wheel = _as_published(row, package) if package else _as_pinned(row, name)
        if wheel is None:
            reason = "no reachable index has a wheel, and the row has no public pin"
            missing.append(Unresolved(kind="wheel", name=name, version=version, reason=reason))
        else:
            found.append(replace(wheel, pythons=(row.python,)))
    return found, tuple(missing)


def _of_an_index(row: Row, name: str, version: str) -> Mapping[str, Any] | None:
    """Return uv's package entry if a configured index has a wheel, else None."""
    try:
        packages = compiled_packages(
            [f"{name}=={version}"], row.python, row.glibc, only_wheels=True, with_needed=False
        )
    except CommandError as error:
        output = " ".join(error.tail.split())  # uv wraps its lines
        if not any(words in output for words in _NO_WHEEL):
            raise
        return None
    return packages[0]


def _of_its_vendor(name: str, version: str) -> Mapping[str, Any] | None:
    """Return the same from the vendor's own index, which may not be configured."""
    wheels = [
        {"name": one.name, "hashes": {"sha256": one.sha256}}
        for one in vendor_files(name, read_mirrors())
        if _is_wheel_of(one.name, version)
    ]
    return {"name": name, "version": version, "wheels": wheels} if wheels else None


def _is_wheel_of(filename: str, version: str) -> bool:
    try:
        return str(parse_wheel_filename(filename)[1]) == version
    except InvalidWheelFilename:
        return False


def _as_published(row: Row, package: Mapping[str, Any]) -> Artifact:
    """Return the package's wheel for the row; ``IntegrityError`` if a public pin differs."""
    for entry in package.get("wheels", ()):
        entry.setdefault("size", 0)  # optional on a vendor's index
    wheel = replace(_wheel_for(row, package, row.python), source="vendor")
    pin = row.public_pins.get(wheel.filename)
    if pin is not None and pin.sha256 != wheel.sha256:
        raise IntegrityError(
            f"{wheel.filename}: expected sha256 {pin.sha256} ({pin.origin}), found {wheel.sha256}"
            " on the package index",
            "do not install it; if the vendor has replaced the file, fix public-pins in"
            " versions.toml",
        )
    return wheel


def _as_pinned(row: Row, name: str) -> Artifact | None:
    for filename, pin in row.public_pins.items():
        if pin.package == name:
            return Artifact(
                name=name,
                version=pin.version,
                filename=filename,
                sha256=pin.sha256,
                size=pin.size,
                pythons=(),
                source="public-pin",
                origin=pin.origin,
            )
    return None


def _debs(row: Row, base: LockedBase) -> tuple[tuple[Deb, ...], tuple[Unresolved, ...]]:
    if row.base.contents == "minimal":
        return resolve_debs(row), ()
    reason = "they depend on the packages in the base image, which cannot be reached"
    if base.digest != UNRESOLVED:
        try:
            return resolve_on(read_mirrors().image(base.reference), row), ()
        except EnvironmentLacksError as error:
            say(f"the packages on {base.image} stay unresolved: {error.message}")
    suite = Unresolved(kind="debs", name="ubuntu", version=row.base.suite, reason=reason)
    return (), (suite,)


def _releases(locked: LockedRow | None, python: str) -> dict[str, str]:
    """Return the version of each Python package that ``locked`` has for ``python``."""
    artifacts = (*locked.wheels, *locked.sdists) if locked else ()
    return {one.name: one.version for one in artifacts if python in one.pythons}


def _compiled(row: Row, python: str, preferred: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return uv's ``packages`` of one Python (pylock.toml, PEP 751)."""
    pins = {**row.packages_for(python), **row.sources}
    try:
        asked = [f"{name}=={version}" for name, version in pins.items()]
        return compiled_packages(asked, python, row.glibc, preferred=preferred)
    except CommandError as error:
        raise _unsolved(row, python, error) from None


def _unsolved(row: Row, python: str, error: CommandError) -> TrtyardError:
    """Return the error for pins that uv could not resolve."""
    what = f"row {row.name} cannot be resolved for Python {python}: {error.message}"
    if any(words in error.tail.lower() for words in _NO_NETWORK):
        hint = "check the network, a proxy or a mirror, then run the command again"
        return EnvironmentLacksError(what, hint)
    return UsageError(f"versions.toml: {what}", "pin releases that are compatible with each other")


def compiled_packages(
    asked: Sequence[str],
    python: str,
    glibc: str,
    *,
    preferred: Mapping[str, str] = MappingProxyType({}),
    constraints: Mapping[str, str] = MappingProxyType({}),
    excluded: Sequence[str] = (),
    only_wheels: bool = False,
    with_needed: bool = True,
    env: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return uv's ``packages`` for requirements (pylock.toml, PEP 751); needs the network.

    Args:
        asked: the requirements.
        python: the version of Python.
        glibc: the system's, such as "2.36".
        preferred: releases to keep if they fit.
        constraints: releases that these packages must have.
        excluded: packages to leave out, even if another one needs them.
        only_wheels: use no source distributions.
        with_needed: also resolve the packages that they need.
        env: the environment variables of uv.

    Raises:
        CommandError: uv could not resolve them.
    """
    with tempfile.TemporaryDirectory(prefix="trtyard-lock-") as folder:
        answer = Path(folder, "pylock.toml")
        if preferred:  # uv keeps the releases of an earlier answer if they still fit
            answer.write_text(_earlier_answer(preferred), encoding="utf-8")
        words: list[str | Path] = ["--format", "pylock.toml", "--output-file", answer]
        if constraints:
            words += ["--constraints", _lines_in(folder, "constraints.txt", _pins(constraints))]
        if excluded:
            words += ["--excludes", _lines_in(folder, "excludes.txt", excluded)]
        if only_wheels:
            words += ["--only-binary", ":all:"]
        if not with_needed:
            words.append("--no-deps")
        _compile(asked, python, glibc, words, folder, env)
        packages: list[dict[str, Any]] = parse_toml(answer.read_text())["packages"]
    return packages


def compiled_lines(
    asked: Sequence[str],
    python: str,
    glibc: str,
    *,
    preferred: Mapping[str, str],
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """Return lines such as ``numpy==2.4.6  # via timm, torch``, only for wheels; see above."""
    with tempfile.TemporaryDirectory(prefix="trtyard-lock-") as folder:
        answer = _lines_in(folder, "answer.txt", _pins(preferred))
        words: list[str | Path] = ["--output-file", answer, "--only-binary", ":all:"]
        words += ["--no-header", "--annotation-style", "line"]
        _compile(asked, python, glibc, words, folder, env)
        return answer.read_text(encoding="utf-8").splitlines()


def _compile(
    asked: Sequence[str],
    python: str,
    glibc: str,
    words: Sequence[str | Path],
    folder: str,
    env: Mapping[str, str] | None,
) -> None:
    platform = f"x86_64-manylinux_{glibc.replace('.', '_')}"
    command: list[str | Path] = [uv(), "pip", "compile", "--quiet", "--python-version", python]
    command += ["--python-platform", platform, *words, _lines_in(folder, "asked.in", asked)]
    output_of(command, cwd=Path(folder), env=env)


def _pins(releases: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in releases.items()]


def _lines_in(folder: str, name: str, lines: Sequence[str]) -> Path:
    """Write the lines to a file and return its path."""
    file = Path(folder, name)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _earlier_answer(releases: Mapping[str, str]) -> str:
    """Return a pylock.toml with only names and versions (JSON strings are valid TOML)."""
    lines = ['lock-version = "1.0"', 'created-by = "trtyard"']
    for name, version in releases.items():
        lines += ["[[packages]]", f"name = {json.dumps(name)}", f"version = {json.dumps(version)}"]
    return "\n".join(lines) + "\n"


def _wheel_for(row: Row, package: Mapping[str, Any], python: str) -> Artifact:
    """Return the wheel that the row installs; ``UsageError`` if there is none."""
    best = best_wheel(package, python, row.glibc)
    if best is None:
        raise UsageError(
            f"versions.toml: {package['name']} {package['version']} (row {row.name}) has no wheel"
            f" for Python {python} on Linux x86_64 with glibc {row.glibc}",
            f'pin a version that has one in packages-on."{python}", or add it to sources',
        )
    return best


def best_wheel(package: Mapping[str, Any], python: str, glibc: str) -> Artifact | None:
    """Return the wheel that an installer would choose from uv's package entry, or None."""
    rank = {tag: number for number, tag in enumerate(_tags(python, glibc))}
    best: tuple[int, Artifact] | None = None
    for entry in package.get("wheels", ()):
        artifact = _artifact(package, entry)
        ranks = [rank[tag] for tag in _wheel_tags(artifact.filename) if tag in rank]
        if ranks and (best is None or min(ranks) < best[0]):
            best = (min(ranks), artifact)
    return None if best is None else best[1]


def _sdist(package: Mapping[str, Any]) -> Artifact:
    if "sdist" not in package:
        raise UsageError(f"versions.toml: {package['name']} has no source distribution")
    return _artifact(package, package["sdist"])


def _artifact(package: Mapping[str, Any], entry: Mapping[str, Any]) -> Artifact:
    if "size" not in entry or "sha256" not in entry["hashes"]:
        raise EnvironmentLacksError(
            f"the package index does not list size and sha256 of {package['name']}",
            "use an index that lists both; some mirrors do not",
        )
    return Artifact(
        name=canonicalize_name(package["name"]),
        version=package["version"],
        filename=unquote(entry.get("name") or entry["url"].rsplit("/", 1)[1]),
        sha256=entry["hashes"]["sha256"],
        size=entry["size"],
        pythons=(),
    )


def _tags(python: str, glibc: str) -> Iterator[Tag]:
    """Yield the wheel tags that this CPython supports with this glibc, the best first."""
    version = (3, _minor(python))
    platforms = []
    for release in range(int(glibc.split(".")[1]), 4, -1):
        platforms.append(f"manylinux_2_{release}_x86_64")
        if release in _LEGACY:
            platforms.append(f"{_LEGACY[release]}_x86_64")
    platforms.append("linux_x86_64")
    interpreter = f"cp3{version[1]}"
    # Before 3.8 the ABI tag includes CPython's memory allocator (PEP 3149).
    abi = f"{interpreter}m" if version[1] < 8 else interpreter
    yield from cpython_tags(version, abis=[abi], platforms=platforms)
    yield from compatible_tags(version, interpreter=interpreter, platforms=platforms)


def _wheel_tags(filename: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return frozenset()  # an unknown file is never chosen


def _minor(python: str) -> int:
    return int(python.split(".")[1])
