"""Resolve a model's packages against the row's locked packages, which do not change."""

import re
from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from trtyard.core.errors import EnvironmentLacksError, TrtyardError, UsageError
from trtyard.lock.file import Artifact, LockedRow
from trtyard.lock.resolve import best_wheel, compiled_lines, compiled_packages
from trtyard.matrix.row import Row
from trtyard.run.requirements import Requirements
from trtyard.system.processes import CommandError
from trtyard.system.terminal import say
from trtyard.system.uv import explained, uv_environment

_MOST_NAMES = 3
_LAST_PATCH = 99  # above every release of a Python: requires-python may name one of them
_NO_ANSWER = "No solution found"  # uv's: the index has answered, and nothing fits
_OFFLINE = "network was disabled"
# All have the module cv2. The headless ones need no libraries of a desktop, which an image lacks.
_HEADLESS = {"opencv-python-headless", "opencv-contrib-python-headless"}
_OPENCV = _HEADLESS | {"opencv-python", "opencv-contrib-python"}
# A line of uv's requirements with --annotation-style line.
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)\s+# via (?P<via>.*)")


def refuse_contradicting(row: Row, locked: LockedRow, requirements: Requirements) -> None:
    """Raise ``UsageError`` for requirements that contradict the row with each of its Pythons."""
    problems = []
    for python in row.pythons:
        try:
            refuse_unfit(row, locked, python, requirements)
        except UsageError as error:
            problems.append(error)
    if len(problems) == len(row.pythons):
        raise problems[0]


def refuse_unfit(row: Row, locked: LockedRow, python: str, requirements: Requirements) -> None:
    """Raise ``UsageError`` for requirements that contradict the row; needs no network."""
    pythons = requirements.pythons
    releases = (python, f"{python}.{_LAST_PATCH}")
    if pythons is not None and not any(pythons.contains(one) for one in releases):
        raise UsageError(
            f"{requirements.file}: its block needs Python {pythons}, and row {row.name} has Python"
            f" {python}",
            "change requires-python, or choose another row: ./run matrix",
        )
    have = _versions(locked, python)
    for one in requirements.asked:
        version = have.get(one.name)
        marker = one.requirement.marker
        if version is None or (marker and not marker.evaluate(_markers(python))):
            continue
        if not one.requirement.specifier.contains(version, prereleases=True):
            raise UsageError(
                f"{one.shown}: row {row.name} has {one.name} {version}, and the packages of a row"
                " do not change",
                "leave the version out, or choose another row: ./run matrix",
            )


def resolve_packages(
    row: Row, locked: LockedRow, python: str, requirements: Requirements, folder: Path
) -> tuple[Artifact, ...]:
    """Return the wheels to install beside the row's; needs the network.

    Args:
        row: the row.
        locked: its lock.
        python: the version of the row's Python.
        requirements: what the model needs.
        folder: where the packages will be, for messages about the disk.

    Raises:
        UsageError: a package does not exist, has no wheel for the row, or does not fit the
            packages of the row.
        EnvironmentLacksError: the package index cannot be reached.
    """
    have = _versions(locked, python)
    env = uv_environment(folder)
    try:
        packages = compiled_packages(
            requirements.texts,
            python,
            row.glibc,
            constraints=have,
            excluded=_excluded(requirements),
            only_wheels=True,
            env=env,
        )
    except CommandError as error:
        raise _refusal(row, have, python, requirements, error, folder) from None
    wheels = []
    for package in packages:
        if canonicalize_name(package["name"]) in have:
            continue
        for entry in package.get("wheels", ()):
            entry.setdefault("size", 0)  # optional on an index; only shown
        wheel = best_wheel(package, python, row.glibc)
        if wheel is None:
            raise _no_wheel(f"{package['name']} {package['version']}", row, python)
        wheels.append(wheel)
    return tuple(wheels)


def _excluded(requirements: Requirements) -> list[str]:
    """Return the packages in whose place the user asks for another one with the same module."""
    asked = {one.name for one in requirements.asked}
    if not asked & _HEADLESS:
        return []
    return sorted(_OPENCV - asked)


def _versions(locked: LockedRow, python: str) -> dict[str, str]:
    """Return the version of each package of the row by normalised name."""
    return {one.name: one.version for one in locked.wheels_for(python)}


def _markers(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def _refusal(
    row: Row,
    have: Mapping[str, str],
    python: str,
    requirements: Requirements,
    error: CommandError,
    folder: Path,
) -> TrtyardError:
    """Return the error for requirements that uv could not resolve."""
    if _NO_ANSWER not in error.tail or _OFFLINE in error.tail:
        problem = explained(error, folder)
        if isinstance(problem, EnvironmentLacksError) and _OFFLINE in error.tail:
            return EnvironmentLacksError(
                f"{', '.join(requirements.texts)} cannot be resolved without a network: UV_OFFLINE"
                " is set, and uv's cache does not have all packages",
                "unset UV_OFFLINE, and run the command again",
            )
        return problem
    cause = _cause(error.tail)
    unknown = re.search(r"Because (\S+) was not found in the package registry", cause)
    if unknown is not None:
        return UsageError(
            f"the package index has no package {unknown[1]}",
            "check its name; the name of the package may differ from that of its module",
        )
    moved = _moved(row, have, python, requirements, uv_environment(folder))
    if moved is not None:
        return moved
    if "no usable wheels" in cause or "no wheels with a matching" in cause:
        found = re.search(r"Because (?:all versions of |only )?(\S+) ", cause)
        what = found[1] if found else ", ".join(requirements.texts)
        return _no_wheel(what, row, python, cause)
    return UsageError(
        f"{', '.join(requirements.texts)} cannot be resolved for row {row.name}: {cause}",
        "change the versions in --with, or leave them out",
    )


def _cause(tail: str) -> str:
    """Return the reason in uv's output, in one line."""
    lines = [line.strip() for line in tail.splitlines()]
    found = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
    reason = " ".join(found) or " ".join(line for line in lines if line)
    return reason.partition(", we can conclude")[0]


def _no_wheel(what: str, row: Row, python: str, cause: str = "") -> UsageError:
    return UsageError(
        f"{what} has no wheel for Python {python} on Linux x86_64 with glibc {row.glibc}, which row"
        f" {row.name} needs{f': {cause}' if cause else ''}",
        "choose a release that has one: --with NAME==VERSION. Packages are not built from source",
    )


def _moved(
    row: Row,
    have: Mapping[str, str],
    python: str,
    requirements: Requirements,
    env: Mapping[str, str],
) -> UsageError | None:
    """Return the error if the packages exist but need other releases of the row's packages.

    They are resolved again with the row's releases as preferences, so few of these change.
    """
    say("uv found no releases that fit; looking for the reason")
    try:
        lines = compiled_lines(requirements.texts, python, row.glibc, preferred=have, env=env)
    except CommandError:
        return None
    found = [one for one in map(_LINE.match, lines) if one is not None]
    names = {str(canonicalize_name(one["name"])): one for one in found}
    moved = {
        name: one for name, one in names.items() if have.get(name, one["version"]) != one["version"]
    }
    direct = {
        name: one for name, one in moved.items() if any(via not in moved for via in _via(one))
    }
    problems = []
    for name, one in list((direct or moved).items())[:_MOST_NAMES]:
        who = [via for via in _via(one) if via not in moved] or _via(one)
        asking = " and ".join(_with_version(via, names) for via in who)
        problems.append(
            f"{asking} {'needs' if len(who) == 1 else 'need'} another release of {name}, such as"
            f" {one['version']}, but row {row.name} has {name} {have[name]}"
        )
    if not problems:
        return None
    return UsageError(
        f"{'; '.join(problems)}. The packages of a row do not change",
        "use an earlier or later release of the package: --with NAME==VERSION; or choose another"
        " row: ./run matrix",
    )


def _via(line: "re.Match[str]") -> list[str]:
    """Return the normalised names of the packages that ask for the package of this line."""
    return [canonicalize_name(one) for one in line["via"].split(", ") if not one.startswith("-")]


def _with_version(name: str, names: Mapping[str, "re.Match[str]"]) -> str:
    version = names[name]["version"] if name in names else ""
    return f"{name} {version}".strip()
