"""Making ``.venv``, the host tools' environment. ``run`` calls it where ``.venv`` is not whole.

Runs on a bare Python 3.10 or newer: standard library only, as is everything it imports. All that
is installed is named by hash in ``requirements/host.txt``; uv installs it, and where the machine
has no uv, pip fetches the one that the same file names.
"""

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trtyard.core.errors import INTERRUPTED_EXIT_CODE, EnvironmentLacksError, TrtyardError
from trtyard.system.folders import emptied_on_failure, empty_own, locked, make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import open_streams, say
from trtyard.system.uv import ROOT, VENV, explained, make_places_absolute, uv_environment

LOCK = ROOT / "requirements" / "host.txt"
STAMP = VENV / "stamp"
PYTHON = VENV / "bin" / "python"
# Settings of pip that say where packages come from are the user's (their hashes are checked);
# these say what is installed or where to.
_CONTRADICTING = re.compile(
    "PIP_(BREAK_SYSTEM_PACKAGES|CONSTRAINT|DRY_RUN|IGNORE_INSTALLED|NO_BINARY|NO_DEPS|PREFIX|PRE"
    "|PYTHON|REPORT|REQUIRE_VIRTUALENV|REQUIREMENT|ROOT|TARGET|UPGRADE|USER)|PYTHON(HOME|PATH)"
)


def main() -> int:
    """Make ``.venv`` whole; return the exit code."""
    open_streams()
    try:
        make_places_absolute()
        make_own(VENV)
        with locked(VENV, waiting="another run is making .venv; waiting for it") as held:
            if not is_whole():
                with emptied_on_failure(VENV):
                    make(held)
    except TrtyardError as error:
        sys.stderr.write(f"trtyard: {error}\n")
        return error.exit_code
    except OSError as error:  # another user's .venv, a full disk
        where = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(f"trtyard: .venv cannot be made: {error.strerror}{where}\n")
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space" if full else "take a checkout of your own: git clone"
        sys.stderr.write(f"  {hint}, then the same command\n")
        return EnvironmentLacksError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("trtyard: interrupted; the same command again goes on\n")
        return INTERRUPTED_EXIT_CODE
    return 0


def is_whole() -> bool:
    """Tell whether ``.venv`` was made to the end from the lock as it is now."""
    return STAMP.is_file() and STAMP.read_bytes() == LOCK.read_bytes() and _runs(PYTHON)


def _runs(python: Path) -> bool:
    try:
        done = subprocess.run([python, "-I", "-c", ""], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def make(held: int) -> None:
    """Make ``.venv`` from nothing; its stamp goes last.

    What writes there inherits ``held``, the lock's descriptor: if this process is killed, the next
    one waits until the last of them is gone.
    """
    say("making .venv with trtyard's own tools, once")
    STAMP.unlink(missing_ok=True)
    empty_own(VENV)
    lock = LOCK.read_bytes()
    # Without pip, venv needs no ensurepip, which Debian keeps apart. The interpreter's own name
    # (python3.11, not python3): when an upgrade takes it away, .venv is seen to be broken.
    base = os.path.realpath(sys.executable)
    check([base, "-I", "-m", "venv", "--without-pip", VENV], pass_fds=(held,))
    # Not in /tmp, from which nothing may be executed on some machines.
    with tempfile.TemporaryDirectory(dir=VENV) as folder:
        uv = uv_on_path() or fetch_uv(Path(folder), held)
        install: list[Word] = [uv, "pip", "sync", "--quiet", "--python", PYTHON]
        install += ["--require-hashes", "--only-binary", ":all:", LOCK]
        try:
            check(install, cwd=VENV, env=uv_environment(VENV, uv), pass_fds=(held,))
        except CommandError as error:
            raise explained(error, VENV) from None
    STAMP.write_bytes(lock)


def uv_on_path() -> Path | None:
    """Return a uv of this machine that works and knows the options used here."""
    found = shutil.which("uv")
    if found is None:
        return None
    try:
        known = output_of([found, "pip", "sync", "--help"])
    except (EnvironmentLacksError, OSError):
        return None
    return Path(found) if "--require-hashes" in known and "--only-binary" in known else None


def fetch_uv(folder: Path, held: int) -> Path:
    """Install the locked uv into ``folder`` with pip, and return it."""
    blocks = re.findall(r"^uv==.*(?:\n    --hash.*)+", LOCK.read_text(), flags=re.MULTILINE)
    (folder / "uv.txt").write_text(blocks[0] + "\n")
    target = folder / "uv"
    env = {name: value for name, value in os.environ.items() if not _CONTRADICTING.fullmatch(name)}
    install = [*_pip(folder, held), "install", "--quiet", "--disable-pip-version-check"]
    install += [
        "--no-user",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--target",
        target,
    ]
    try:
        check([*install, "-r", folder / "uv.txt"], env=env, pass_fds=(held,))
    except CommandError as error:
        raise explained(error, VENV) from None
    return target / "bin" / "uv"


def _pip(folder: Path, held: int) -> Sequence[Word]:
    """Return a command for pip: its own, or the system's where Debian took ensurepip out."""
    if importlib.util.find_spec("ensurepip") is not None:
        venv = folder / "pip"
        made = [sys.executable, "-I", "-m", "venv", str(venv)]
        done = subprocess.run(made, pass_fds=(held,), capture_output=True, check=False)
        if done.returncode == 0:
            return [venv / "bin" / "python", "-I", "-m", "pip"]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-I", "-m", "pip"]
    release = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise EnvironmentLacksError(
        f"{sys.executable} has no pip and cannot make one (the module ensurepip is missing)",
        f"sudo apt-get install python3-venv   (or python{release}-venv), then the same command",
    )


if __name__ == "__main__":
    raise SystemExit(main())
