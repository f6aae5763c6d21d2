"""A row's virtual environment for the host executor, made from the lock alone.

It is in ``.trtyard/rows/<row>/<key>/``. The key is a hash of its inputs, so another lock gets
another folder. The marker file is written last: a folder without it was interrupted and is made
again. Only one process at a time can do that, with a lock on the row's folder.
"""

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.files import write_json, write_text
from trtyard.lock.file import Artifact, LockedRow, requirements_text
from trtyard.matrix.row import Row
from trtyard.system.folders import emptied_on_failure, empty_own, held_folder, make_own
from trtyard.system.interpreters import find_python
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, YARD, explained, uv, uv_environment

LAYOUT = "1"  # increment it if the same lock makes a different environment
MARKER = "whole"
# Bytes on disk for each byte of wheel, measured for row rtx-1.7: 5.7 GB from 3.06 GB.
UNPACKED = 1.9


@dataclass(frozen=True, kw_only=True)
class RowEnvironment:
    """A row's environment on this machine, complete or not."""

    row: Row
    python_version: str
    wheels: tuple[Artifact, ...]
    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def row_file(self) -> Path:
        """The JSON file with the row's values for the pipeline."""
        return self.folder / "row.json"

    @property
    def site_packages(self) -> Path:
        """The folder with the installed packages."""
        return self.folder / "venv" / "lib" / f"python{self.python_version}" / "site-packages"

    def is_whole(self) -> bool:
        """Return whether it is complete and its interpreter still exists."""
        return (self.folder / MARKER).is_file() and self.python.exists()


def environment_of(row: Row, lock: LockedRow, python: str) -> RowEnvironment:
    """Return the row's environment for that Python, which may not exist yet."""
    # Without vendor files: the host needs none up to ONNX, and their index may be unreachable.
    wheels = tuple(wheel for wheel in lock.wheels_for(python) if not wheel.is_vendors)
    facts = json.dumps(row.facts(python), sort_keys=True)
    content = "\n".join([LAYOUT, facts, requirements_text(wheels)])
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    folder = YARD / "rows" / row.name / key
    return RowEnvironment(row=row, python_version=python, wheels=wheels, folder=folder)


def existing_environment(row: Row, lock: LockedRow) -> RowEnvironment | None:
    """Return the row's first complete environment, in the order of the row's Pythons, or None."""
    candidates = [environment_of(row, lock, python) for python in row.pythons]
    return next((one for one in candidates if one.is_whole()), None)


def make_environment(row: Row, lock: LockedRow) -> RowEnvironment:
    """Return the row's environment; make or repair it first if needed.

    Raises ``EnvironmentLacksError`` if a Python, disk space or the network is missing,
    ``IntegrityError`` if a package differs from the lock.
    """
    ready = existing_environment(row, lock)
    if ready is not None:
        return ready
    version, python = find_python(one for one in row.pythons if one in row.host_pythons)
    environment = environment_of(row, lock, version)
    make_own(YARD)
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"waiting for another run that makes the environment of row {row.name}"
    with held_folder(environment.folder.parent, waiting=waiting) as held:
        if not environment.is_whole():
            make_own(environment.folder)
            with emptied_on_failure(environment.folder):
                _make(environment, python, held)
    return environment


def _make(environment: RowEnvironment, python: Path, held: int) -> None:
    # Child processes inherit the lock: if this process is killed, the next run waits for them.
    row, folder = environment.row, environment.folder
    if (folder / "venv").exists():
        say(f"the environment of row {row.name} is incomplete; making it again")
    (folder / MARKER).unlink(missing_ok=True)
    empty_own(folder)
    packed = sum(wheel.size for wheel in environment.wheels)
    say(
        f"making the environment of row {row.name} (once): Python {environment.python_version},"
        f" {len(environment.wheels)} packages, up to {packed / GIGA:.1f} GB to download,"
        f" {packed * UNPACKED / GIGA:.1f} GB on disk"
    )
    requirements = folder / "requirements.txt"
    write_text(requirements, requirements_text(environment.wheels))
    env = uv_environment(folder)
    making: list[Word] = [uv(), "venv", "--quiet", "--python", python, folder / "venv"]
    check(making, cwd=folder, env=env, pass_fds=(held,))
    install: list[Word] = [uv(), "pip", "install", "--python", environment.python, "--no-deps"]
    install += ["--require-hashes", "--only-binary", ":all:", "-r", requirements]
    _check_disk(environment, install, env, packed)
    if not sys.stderr.isatty():  # without a progress bar uv lists every package
        install.append("--quiet")
    try:
        check(install, cwd=folder, env=env, pass_fds=(held,))
    except CommandError as error:
        raise explained(error, folder) from None
    _check_inventory(environment, env)
    _link_unversioned(environment)
    write_json(environment.row_file, row.facts(environment.python_version))
    write_text(folder / MARKER, f"{environment.python_version}\n")
    say(f"the environment of row {row.name} is ready")
    if len([one for one in folder.parent.iterdir() if one.is_dir()]) > 1:
        say(f"row {row.name} has environments of an earlier lock or another Python, too")
        say("  delete those of an earlier lock: ./run clean --old")


def _check_disk(
    environment: RowEnvironment, install: list[Word], env: dict[str, str], packed: int
) -> None:
    """Raise ``EnvironmentLacksError`` if the disk is too small.

    Packages in uv's cache on the same disk are hard-linked and need no space.
    """
    needed = int(packed * UNPACKED)
    free = shutil.disk_usage(environment.folder).free
    if free >= needed:
        return
    try:
        plan = output_of([*install, "--dry-run"], cwd=environment.folder, env=env, errors=True)
    except CommandError as error:
        raise explained(error, environment.folder) from None
    if "Would download" in plan or env.get("UV_LINK_MODE") == "copy":
        raise EnvironmentLacksError(
            f"not enough disk space: row {environment.row.name} needs {needed / GIGA:.1f} GB at"
            f" {environment.folder}, {free / GIGA:.1f} GB free",
            "free some space, then run the same command again",
        )


def _check_inventory(environment: RowEnvironment, env: dict[str, str]) -> None:
    """Raise ``IntegrityError`` if the installed packages are not exactly those of the lock."""
    freeze: list[Word] = [uv(), "pip", "freeze", "--quiet", "--python", environment.python]
    found = set(output_of(freeze, cwd=environment.folder, env=env).split())
    expected = {f"{wheel.name}=={wheel.version}" for wheel in environment.wheels}
    if found != expected:
        raise IntegrityError(
            f"the environment in {environment.folder} differs from the lock: missing"
            f" {sorted(expected - found)}, extra {sorted(found - expected)}",
            "./run clean, then run the same command again",
        )


def _link_unversioned(environment: RowEnvironment) -> None:
    """Make unversioned symlinks to TensorRT's libraries.

    The wheel has only libtensorrt_rtx.so.1. With a plugin library, the ONNX parser opens
    libtensorrt_rtx.so in the same folder and ends the process if it is missing.
    """
    for library in environment.site_packages.glob("tensorrt*_libs/lib*.so.*"):
        plain = library.with_name(library.name.partition(".so")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
