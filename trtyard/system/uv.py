"""Paths of trtyard and calls to uv. Standard library only, because ``bootstrap`` imports it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.system.processes import COLOURS, CommandError

ROOT = Path(__file__).resolve().parents[2]
MATRIX_FILE = ROOT / "versions.toml"
LOCK_FILE = ROOT / "versions.lock"
YARD = ROOT / ".trtyard"  # environments, caches and other work folders
OUT = ROOT / "out"
VENV = ROOT / ".venv"  # the host tools; bootstrap makes it
GIGA = 1e9
# Words of uv and pip when a package index does not answer.
_CERTIFICATE_WORDS = ("certificate_verify_failed", "invalid peer certificate")
_NETWORK_WORDS = ("connect", "dns error", "fetch", "network", "resolve host", "timed out", "retr")

# The user's environment variables that hold paths, perhaps relative ones.
_PLACES = (
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "NETRC",
    "SSL_CERT_FILE",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
)

# The user's settings of uv apply where they say where packages come from. These say what to
# install, or where to install it, and would contradict the lock, so they are removed.
_CONTRADICTING = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_EXCLUDE_NEWER",
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_VERIFY_HASHES",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_RESOLUTION",
    "UV_SYSTEM_PYTHON",
    "UV_TORCH_BACKEND",
    "UV_VENV_CLEAR",
    "UV_WORKING_DIR",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONHOME",
    "PYTHONPATH",
    *COLOURS,  # uv's output is parsed
)


def home() -> Path:
    """Return the user's home folder, or a path that does not exist if the user has none."""
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and no entry for this user
        return Path("/nonexistent")  # Debian policy guarantees that it does not exist


def make_places_absolute() -> None:
    """Make paths in the user's environment variables absolute, for children in other folders."""
    for name in _PLACES:
        if value := os.environ.get(name):
            os.environ[name] = str(Path(value).absolute())


def uv() -> Path:
    """Return the pinned uv of ``.venv``, or the uv on PATH if trtyard runs without ``./run``."""
    own = Path(sys.executable).parent / "uv"
    if own.is_file():
        return own
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentLacksError("uv is not installed", "start trtyard with ./run: it has uv")
    return Path(found)


def uv_environment(target: Path, program: Path | None = None) -> dict[str, str]:
    """Return the environment variables for a uv command that installs into ``target``."""
    env = {key: value for key, value in os.environ.items() if key not in _CONTRADICTING}
    env["UV_PYTHON_DOWNLOADS"] = "never"
    env["COLUMNS"] = "1000"  # uv wraps its errors at the terminal's width, and they are parsed
    asked = [str(program or uv()), "cache", "dir"]
    done = subprocess.run(asked, capture_output=True, text=True, env=env, check=False)
    cache = Path(done.stdout.strip() or "/")
    while not cache.exists():
        cache = cache.parent
    if cache.stat().st_dev != target.stat().st_dev:
        env["UV_LINK_MODE"] = "copy"  # uv would copy anyway, with a warning
    return env


def explained(error: CommandError, folder: Path) -> EnvironmentLacksError | IntegrityError:
    """Return the error for a failed uv command: its output tells a bad hash from disk or network.

    ``folder`` is where uv installs; the message names its free disk space.
    """
    tail = error.tail.lower()
    words = [line.strip() for line in error.tail.splitlines() if line.strip()] or ["no reason"]
    # The user has seen the whole output; uv ends it with the cause, and perhaps a hint.
    causes = [line.removeprefix("cause: ") for line in words if line.startswith("cause: ")]
    last = [*words, *causes][-1]
    if "hash mismatch" in tail:
        return IntegrityError(
            f"a package does not match its hash in the lock; {error.message}",
            "the file was replaced, or a mirror altered it: do not install it. ./run lock --check"
            " checks the lock itself",
        )
    if "no space left" in tail or "quota" in tail:
        free = shutil.disk_usage(folder).free
        return EnvironmentLacksError(
            f"the disk is full ({free / GIGA:.1f} GB free at {folder}): {last}",
            "free some space (./run clean shows what trtyard uses), then run the command again",
        )
    if "failed to initialize cache" in tail:
        return EnvironmentLacksError(
            f"uv cannot write its cache: {last}",
            "set UV_CACHE_DIR to a folder that you can write to, then run the command again",
        )
    if any(word in tail for word in _CERTIFICATE_WORDS):
        line = next(one for one in words if any(word in one.lower() for word in _CERTIFICATE_WORDS))
        return EnvironmentLacksError(
            f"the certificate of the package index is not trusted:"
            f" {line.removeprefix('cause: ')[-200:]}",
            "behind a company's proxy, set its certificate (SSL_CERT_FILE=ca.pem, for pip also"
            " PIP_CERT=ca.pem), then run the command again",
        )
    if any(word in tail for word in _NETWORK_WORDS):
        return EnvironmentLacksError(
            f"packages cannot be fetched: {last}",
            "check the network, a proxy (HTTPS_PROXY) or a mirror (UV_DEFAULT_INDEX), then run the"
            " command again; fetched files are kept",
        )
    return EnvironmentLacksError(f"packages cannot be installed: {last}")
