"""Packages beside the row's environment: what a model needs, or the row's onnxruntime-gpu.

They are in ``.trtyard/with/<row>/<environment>/<key>/``. The environment is the key of the row's
own packages, which do not change; the key is a hash of the requirements. So the same requirements
are resolved and installed once. As for a row's environment, the marker file is written last, and
only one process at a time makes a folder.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.files import write_json, write_text
from trtyard.core.packages import FACTS_FILE, MODULES, read_packages
from trtyard.core.report import Package, Packages
from trtyard.lock.file import Artifact, LockedRow, requirements_text
from trtyard.matrix.row import GPU_PACKAGE, Row
from trtyard.report import words
from trtyard.run.environment import environment_of
from trtyard.run.overlay_resolving import refuse_unfit, resolve_packages
from trtyard.run.requirements import Asked, Requirements
from trtyard.system.folders import empty_own, held_folder, make_own, remove_own
from trtyard.system.processes import CommandError, Word, check
from trtyard.system.terminal import say
from trtyard.system.uv import YARD, explained, uv, uv_environment

LAYOUT = "1"  # increment it if the same requirements make a different folder
MARKER = "whole"
FOLDER = "with"  # below YARD


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A folder with packages on this machine, complete or not."""

    row: Row
    locked: LockedRow
    python: str
    requirements: Requirements
    folder: Path
    wheels: tuple[Artifact, ...] = ()  # those of the lock; empty: uv resolves ``requirements``

    def is_whole(self) -> bool:
        """Return whether it is complete."""
        return (self.folder / MARKER).is_file()

    def facts(self) -> Packages:
        """Return what was asked for and installed."""
        return read_packages(self.folder)


def overlay_of(
    row: Row,
    locked: LockedRow,
    python: str,
    requirements: Requirements,
    wheels: tuple[Artifact, ...] = (),
) -> Overlay:
    """Return the overlay for these requirements or locked wheels, which may not exist yet."""
    environment = environment_of(row, locked, python).folder.name
    content = "\n".join([LAYOUT, environment, *requirements.texts])
    content += requirements_text(wheels)
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    folder = YARD / FOLDER / row.name / environment / key
    return Overlay(
        row=row,
        locked=locked,
        python=python,
        requirements=requirements,
        folder=folder,
        wheels=wheels,
    )


def make_overlay(row: Row, locked: LockedRow, python: str, requirements: Requirements) -> Overlay:
    """Return the overlay for these requirements; resolve and install them first if needed.

    Raises:
        UsageError: the packages do not exist, or do not fit the row.
        EnvironmentLacksError: the network or disk space is missing.
        IntegrityError: a package does not match its hash.
    """
    refuse_unfit(row, locked, python, requirements)
    overlay = overlay_of(row, locked, python, requirements)
    if requirements.file is not None:
        say(f"{requirements.file} has a '# /// script' block, which is used")
    _make_whole(overlay)
    say(f"packages: {', '.join(_shown(overlay)) or 'the row has them all'}")
    return overlay


def make_gpu_overlay(row: Row, locked: LockedRow, python: str) -> Overlay:
    """Return the overlay with the row's locked onnxruntime-gpu; install it first if needed.

    Raises:
        EnvironmentLacksError: there is no wheel for this Python, or no network or disk space.
        IntegrityError: a wheel does not match its hash.
    """
    wheels = locked.gpu_for(python)
    if not wheels:
        pythons = {one for wheel in locked.gpu for one in wheel.pythons}
        having = ", ".join(one for one in row.pythons if one in pythons)
        raise EnvironmentLacksError(
            f"row {row.name} has no {GPU_PACKAGE} for Python {python}, which its environment has",
            f"install Python {having}, then: ./run clean",
        )
    asked = (Requirement(f"{one.name}=={one.version}") for one in wheels)
    requirements = Requirements(asked=tuple(Asked(requirement=one, place="gpu") for one in asked))
    overlay = overlay_of(row, locked, python, requirements, wheels)
    _make_whole(overlay)
    return overlay


def _make_whole(overlay: Overlay) -> None:
    """Resolve and install the packages unless they are there."""
    if not overlay.is_whole():
        make_own(YARD)
        overlay.folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another run that installs packages for row {overlay.row.name}"
        with held_folder(overlay.folder.parent, waiting=waiting) as held:
            if not overlay.is_whole():
                make_own(overlay.folder)
                try:
                    _make(overlay, held)
                except BaseException:
                    remove_own(overlay.folder)
                    raise


def old_overlays(current: set[str]) -> list[Path]:
    """Return the overlays on environments that are not in ``current``, names of their folders."""
    found = (YARD / FOLDER).glob("*/*/*")
    return sorted(one for one in found if one.parent.name not in current)


def _shown(overlay: Overlay) -> Iterator[str]:
    """Yield the packages that were asked for with their versions, then the number of others."""
    asked = {one.name for one in overlay.requirements.asked}
    installed = overlay.facts().installed
    yield from (f"{one.name} {one.version}" for one in installed if one.name in asked)
    others = sum(one.name not in asked for one in installed)
    if others:
        yield f"{others} more that they need"


def _make(overlay: Overlay, held: int) -> None:
    # Child processes inherit the lock: if this process is killed, the next run waits for them.
    folder, texts = overlay.folder, overlay.requirements.texts
    (folder / MARKER).unlink(missing_ok=True)
    empty_own(folder)
    wheels = overlay.wheels
    if not wheels:
        say(f"resolving {', '.join(texts)} for row {overlay.row.name} (once)")
        wheels = resolve_packages(
            overlay.row, overlay.locked, overlay.python, overlay.requirements, folder
        )
    if wheels:
        size = sum(one.size for one in wheels)  # 0 if the index does not list it
        at_most = f", up to {words.size(size)} to download" if size else ""
        say(f"installing {words.counted(len(wheels), 'package')}{at_most}")
        _install(overlay, wheels, held)
    (folder / MODULES).mkdir(exist_ok=True)
    installed = tuple(
        Package(one.name, one.version, one.sha256) for one in sorted(wheels, key=lambda it: it.name)
    )
    write_json(
        folder / FACTS_FILE,
        {"asked": list(texts), "installed": [one._asdict() for one in installed]},
    )
    write_text(folder / MARKER, f"{overlay.python}\n")


def _install(overlay: Overlay, wheels: tuple[Artifact, ...], held: int) -> None:
    folder, glibc = overlay.folder, overlay.row.glibc.replace(".", "_")
    requirements = folder / "requirements.txt"
    write_text(requirements, requirements_text(wheels))
    env = uv_environment(folder)
    # Only wheels are unpacked, so uv needs no interpreter of the row's version.
    install: list[Word] = [uv(), "pip", "install", "--target", folder / MODULES]
    install += ["--python", sys.executable, "--python-version", overlay.python]
    install += ["--python-platform", f"x86_64-manylinux_{glibc}", "--no-deps", "--require-hashes"]
    install += ["--only-binary", ":all:", "--quiet", "-r", requirements]
    try:
        check(install, cwd=folder, env=env, pass_fds=(held,))
    except CommandError as error:
        raise explained(error, folder) from None
    found = {
        f"{canonicalize_name(one.metadata['Name'])}=={one.version}"
        for one in distributions(path=[str(folder / MODULES)])
    }
    expected = {f"{one.name}=={one.version}" for one in wheels}
    if found != expected:
        raise IntegrityError(
            f"the packages in {folder} are not those that were resolved: missing"
            f" {sorted(expected - found)}, extra {sorted(found - expected)}",
            "run the same command again; if the error stays, the package's own metadata is wrong",
        )
