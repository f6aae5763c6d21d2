"""A row's virtual environment for the host executor, made from the lock alone.

``.trtyard/rows/<row>/<key>/`` holds it, where the key says what went in: another lock gives
another folder. A folder without the marker, which is written last, was interrupted and is made
anew; a lock on the row's folder lets only one process do so.
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
from trtyard.system.folders import emptied_on_failure, empty_own, locked, make_own
from trtyard.system.interpreters import find_python
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, YARD, explained, uv, uv_environment

LAYOUT = "1"  # raise it when an environment is made differently from the same lock
MARKER = "whole"
# Bytes on disk for each byte of wheel, measured for row rtx-1.7: 5.7 GB from 3.06 GB.
UNPACKED = 1.9


@dataclass(frozen=True, kw_only=True)
class RowEnvironment:
    """A row's environment on this machine, whole or not yet."""

    row: Row
    python_version: str
    wheels: tuple[Artifact, ...]
    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter that sees the row's packages."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def row_file(self) -> Path:
        """The row's facts for the pipeline."""
        return self.folder / "row.json"

    @property
    def site_packages(self) -> Path:
        """Where the packages are."""
        return self.folder / "venv" / "lib" / f"python{self.python_version}" / "site-packages"

    def is_whole(self) -> bool:
        """Tell whether it was made to the end, and its interpreter is still there."""
        return (self.folder / MARKER).is_file() and self.python.exists()


def environment_of(row: Row, lock: LockedRow, python: str) -> RowEnvironment:
    """Return where the row's environment for that Python is or would be."""
    # Up to ONNX none of a vendor's own files is needed; its index may not be among those in use.
    wheels = tuple(wheel for wheel in lock.wheels_for(python) if not wheel.is_vendors)
    facts = json.dumps(row.facts(python), sort_keys=True)
    content = "\n".join([LAYOUT, facts, requirements_text(wheels)])
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    folder = YARD / "rows" / row.name / key
    return RowEnvironment(row=row, python_version=python, wheels=wheels, folder=folder)


def existing_environment(row: Row, lock: LockedRow) -> RowEnvironment | None:
    """Return the row's environment if one is ready, the row's own Python before others."""
    candidates = [environment_of(row, lock, python) for python in row.pythons]
    return next((one for one in candidates if one.is_whole()), None)


def make_environment(row: Row, lock: LockedRow) -> RowEnvironment:
    """Return the row's environment, making or repairing it first where needed.

    ``EnvironmentLacksError`` where a Python, disk or network is missing, ``IntegrityError`` where
    what was fetched is not what the lock names.
    """
    ready = existing_environment(row, lock)
    if ready is not None:
        return ready
    version, python = find_python(one for one in row.pythons if one in row.host_pythons)
    environment = environment_of(row, lock, version)
    make_own(YARD)
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another run is making the environment of row {row.name}; waiting for it"
    with locked(environment.folder.parent, waiting=waiting) as held:
        if not environment.is_whole():
            make_own(environment.folder)
            with emptied_on_failure(environment.folder):
                _make(environment, python, held)
    return environment


def _make(environment: RowEnvironment, python: Path, held: int) -> None:
    # What writes there inherits the lock: should this process be killed, the next one waits for it.
    row, folder = environment.row, environment.folder
    if (folder / "venv").exists():
        say(f"the environment of row {row.name} was left unfinished; making it anew")
    (folder / MARKER).unlink(missing_ok=True)
    empty_own(folder)
    packed = sum(wheel.size for wheel in environment.wheels)
    say(
        f"making the environment of row {row.name}, once: Python {environment.python_version},"
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
    if not sys.stderr.isatty():  # where it has no progress to show, uv lists every package
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
        say("there are environments of an earlier lock or another Python too: ./run clean --old")


def _check_disk(
    environment: RowEnvironment, install: list[Word], env: dict[str, str], packed: int
) -> None:
    """Refuse early what cannot fit; where uv can link files it already has, it needs no more."""
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
            f"row {environment.row.name} needs {needed / GIGA:.1f} GB on disk at"
            f" {environment.folder}, {free / GIGA:.1f} GB are free",
            "free some space, then the same command again",
        )


def _check_inventory(environment: RowEnvironment, env: dict[str, str]) -> None:
    """Compare what is installed with the lock, in both directions."""
    freeze: list[Word] = [uv(), "pip", "freeze", "--quiet", "--python", environment.python]
    found = set(output_of(freeze, cwd=environment.folder, env=env).split())
    expected = {f"{wheel.name}=={wheel.version}" for wheel in environment.wheels}
    if found != expected:
        raise IntegrityError(
            f"the environment in {environment.folder} is not what the lock says: missing"
            f" {sorted(expected - found)}, extra {sorted(found - expected)}",
            "./run clean, then the same command again",
        )


def _link_unversioned(environment: RowEnvironment) -> None:
    """Give TensorRT's libraries the unversioned names under which it opens itself.

    The wheel ships only libtensorrt_rtx.so.1. With a plugin from outside the ONNX parser opens
    libtensorrt_rtx.so beside it, and ends the process where there is none.
    """
    for library in environment.site_packages.glob("tensorrt*_libs/lib*.so.*"):
        plain = library.with_name(library.name.partition(".so")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
