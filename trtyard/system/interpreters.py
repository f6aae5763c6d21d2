"""Finds the Pythons of this machine by running them: a pyenv shim can exist and still fail."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system.uv import home

PROBE_SECONDS = 10.0
USUAL_FOLDERS = (Path("/usr/bin"), Path("/usr/local/bin"))  # searched even if not on PATH
_PROBE = """
import platform, sys, sysconfig
print("%d.%d" % sys.version_info[:2], platform.python_implementation(), platform.machine(),
      sys.maxsize > 2**32, bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""
_USABLE = "CPython x86_64 True False"  # the rows' wheels are built for this


def find_python(versions: Iterable[str]) -> tuple[str, Path]:
    """Return the first of ``versions`` that is installed, and its executable.

    If none is, raise ``EnvironmentLacksError`` with the command that installs one.
    """
    versions = list(versions)
    seen: dict[Path, str | None] = {}
    for version in versions:
        for candidate in _candidates(version):
            real = Path(os.path.realpath(candidate))
            if real not in seen:
                seen[real] = _probe(candidate)
            if seen[real] == version:
                return version, candidate
    raise EnvironmentLacksError(
        f"this machine has no Python {' or '.join(sorted(versions, key=_minor))}"
        " (CPython, 64 bit, x86_64)",
        f"install one: apt-get install python{versions[0]}, or pyenv install {versions[0]};"
        " or use Docker instead: --in docker",
    )


def _candidates(version: str) -> Iterator[Path]:
    """Yield candidates: the running Python's base, those on PATH in its order, pyenv's."""
    yield Path(getattr(sys, "_base_executable", sys.executable))
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    for name in (f"python{version}", "python3"):
        for folder in (*folders, *USUAL_FOLDERS):
            if folder.is_absolute() and os.access(folder / name, os.X_OK):
                yield folder / name
    pyenv = Path(os.environ.get("PYENV_ROOT", home() / ".pyenv"))
    with contextlib.suppress(OSError):  # an unreadable folder has no usable Python
        yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))


def _probe(candidate: Path) -> str | None:
    """Return the version of ``candidate``, or None if it does not run or cannot use the wheels."""
    try:
        done = subprocess.run(
            [candidate, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version, _, rest = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and rest == _USABLE else None


def _minor(version: str) -> int:
    return int(version.split(".")[1])
