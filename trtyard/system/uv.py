"""Where trtyard keeps things, and how it calls uv. Standard library only: ``bootstrap`` uses it."""

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
YARD = ROOT / ".trtyard"  # what trtyard keeps for itself
OUT = ROOT / "out"
VENV = ROOT / ".venv"  # the host tools; bootstrap makes it
GIGA = 1e9
# How uv and pip put it when a package index does not answer.
_CERTIFICATE_WORDS = ("certificate_verify_failed", "invalid peer certificate")
_NETWORK_WORDS = ("connect", "dns error", "fetch", "network", "resolve host", "timed out", "retr")

# What the user's environment names by path, perhaps from where the user stands.
_PLACES = (
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "NETRC",
    "SSL_CERT_FILE",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
)

# Settings of uv that say where packages come from are the user's. These say what is installed,
# or where to, and would contradict the lock.
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
    *COLOURS,  # its answers are read here
)


def home() -> Path:
    """Return the user's own folder; for a user without one, a folder that is not there."""
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and no entry for this user
        return Path("/nonexistent")  # Debian's policy keeps it so


def make_places_absolute() -> None:
    """Let the user's variables that name a file or folder mean the same to children elsewhere."""
    for name in _PLACES:
        if value := os.environ.get(name):
            os.environ[name] = str(Path(value).absolute())


def uv() -> Path:
    """Return the pinned uv of ``.venv``; without one (another entry than ``run``) that on PATH."""
    own = Path(sys.executable).parent / "uv"
    if own.is_file():
        return own
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentLacksError("uv is missing", "call trtyard through ./run, which brings it")
    return Path(found)


def uv_environment(target: Path, program: Path | None = None) -> dict[str, str]:
    """Return the environment variables for a uv that installs into the existing ``target``."""
    env = {key: value for key, value in os.environ.items() if key not in _CONTRADICTING}
    env["UV_PYTHON_DOWNLOADS"] = "never"
    env["COLUMNS"] = "1000"  # uv breaks its errors at a narrow terminal's edge; they are read here
    asked = [str(program or uv()), "cache", "dir"]
    done = subprocess.run(asked, capture_output=True, text=True, env=env, check=False)
    cache = Path(done.stdout.strip() or "/")
    while not cache.exists():
        cache = cache.parent
    if cache.stat().st_dev != target.stat().st_dev:
        env["UV_LINK_MODE"] = "copy"  # what uv does then anyway, but with a warning
    return env


def explained(error: CommandError, folder: Path) -> EnvironmentLacksError | IntegrityError:
    """Tell from uv's words what was wrong: a hash, the disk, or else the network."""
    tail = error.tail.lower()
    words = [line.strip() for line in error.tail.splitlines() if line.strip()] or ["no word why"]
    # All of them have gone by on the screen; uv ends with the cause, and perhaps a hint.
    causes = [line.removeprefix("cause: ") for line in words if line.startswith("cause: ")]
    last = [*words, *causes][-1]
    if "hash mismatch" in tail:
        return IntegrityError(
            f"a package is not the one that the lock names; {error.message}",
            "someone replaced it, or a mirror altered it; do not install it. ./run lock --check"
            " shows whether the lock itself is sound",
        )
    if "no space left" in tail or "quota" in tail:
        free = shutil.disk_usage(folder).free
        return EnvironmentLacksError(
            f"the disk is full ({free / GIGA:.1f} GB free at {folder}): {last}",
            "free some space (./run clean shows what trtyard takes), then the same command again",
        )
    if "failed to initialize cache" in tail:
        return EnvironmentLacksError(
            f"uv cannot write its cache: {last}",
            "UV_CACHE_DIR=FOLDER before the command names a folder that you may write to",
        )
    if any(word in tail for word in _CERTIFICATE_WORDS):
        said = next(one for one in words if any(word in one.lower() for word in _CERTIFICATE_WORDS))
        return EnvironmentLacksError(
            f"the package index shows a certificate that is not trusted here:"
            f" {said.removeprefix('cause: ')[-200:]}",
            "behind a company's proxy, name its certificate (SSL_CERT_FILE=ca.pem, for pip also"
            " PIP_CERT=ca.pem), then the same command again",
        )
    if any(word in tail for word in _NETWORK_WORDS):
        return EnvironmentLacksError(
            f"packages cannot be fetched: {last}",
            "look to the network, a proxy (HTTPS_PROXY) or a mirror (UV_DEFAULT_INDEX), then the"
            " same command again: what was fetched is kept",
        )
    return EnvironmentLacksError(f"packages cannot be installed: {last}")
