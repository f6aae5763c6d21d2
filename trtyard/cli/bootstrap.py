"""Make ``.venv``, the host tools' environment. ``run`` calls this if ``.venv`` is not complete.

Runs on a bare Python 3.10 or newer: this module and its imports need the standard library only. uv
installs the packages in ``requirements/host.txt``, all by hash. If the machine has no uv, pip first
downloads the uv that the file names.
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
from trtyard.system.folders import emptied_on_failure, empty_own, held_folder, make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import open_streams, say
from trtyard.system.uv import ROOT, VENV, explained, make_places_absolute, uv_environment

LOCK = ROOT / "requirements" / "host.txt"
STAMP = VENV / "stamp"
PYTHON = VENV / "bin" / "python"
# The user's pip settings for package sources apply, because hashes are checked. These settings
# would change what is installed, or where.
_CONTRADICTING = re.compile(
    "PIP_(BREAK_SYSTEM_PACKAGES|CONSTRAINT|DRY_RUN|IGNORE_INSTALLED|NO_BINARY|NO_DEPS|PREFIX|PRE"
    "|PYTHON|REPORT|REQUIRE_VIRTUALENV|REQUIREMENT|ROOT|TARGET|UPGRADE|USER)|PYTHON(HOME|PATH)"
)


def main() -> int:
    """Make ``.venv`` if it is not complete; return the exit code."""
    open_streams()
    try:
        make_places_absolute()
        make_own(VENV)
        with held_folder(VENV, waiting="waiting for another run that makes .venv") as held:
            if not is_whole():
                with emptied_on_failure(VENV):
                    make(held)
    except TrtyardError as error:
        sys.stderr.write(f"trtyard: {error}\n")
        return error.exit_code
    except OSError as error:  # another user's .venv, a full disk
        where = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(f"trtyard: cannot make .venv: {error.strerror}{where}\n")
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space" if full else "make your own checkout with git clone"
        sys.stderr.write(f"  {hint}, then run the same command again\n")
        return EnvironmentLacksError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("trtyard: interrupted; run the same command again to continue\n")
        return INTERRUPTED_EXIT_CODE
    return 0


def is_whole() -> bool:
    """Return whether ``.venv`` is complete and made from the current lock."""
    return STAMP.is_file() and STAMP.read_bytes() == LOCK.read_bytes() and _runs(PYTHON)


def _runs(python: Path) -> bool:
    try:
        done = subprocess.run([python, "-I", "-c", ""], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def make(held: int) -> None:
    """Make ``.venv`` from scratch; write its stamp last.

    Child processes inherit ``held``, the lock's file descriptor: if this process is killed, the
    next one waits until they end.
    """
    say("making .venv with trtyard's tools (once)")
    STAMP.unlink(missing_ok=True)
    empty_own(VENV)
    lock = LOCK.read_bytes()
    # Without pip, venv needs no ensurepip, which Debian has in another package. With the real
    # interpreter (python3.11, not python3), .venv is found to be broken once an upgrade removes it.
    base = os.path.realpath(sys.executable)
    check([base, "-I", "-m", "venv", "--without-pip", VENV], pass_fds=(held,))
    # Not in /tmp: some machines mount it noexec.
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
    """Return the uv on PATH if it works and has the options used here, else None."""
    found = shutil.which("uv")
    if found is None:
        return None
    try:
        known = output_of([found, "pip", "sync", "--help"])
    except (EnvironmentLacksError, OSError):
        return None
    return Path(found) if "--require-hashes" in known and "--only-binary" in known else None


def fetch_uv(folder: Path, held: int) -> Path:
    """Install the locked uv into ``folder`` with pip; return its path."""
    blocks = re.findall(r"^uv==.*(?:\n    --hash.*)+", LOCK.read_text(), flags=re.MULTILINE)
    (folder / "uv.txt").write_text(blocks[0] + "\n")
    target = folder / "uv"
    env = {name: value for name, value in os.environ.items() if not _CONTRADICTING.fullmatch(name)}
    install = [*_pip(folder, held), "install", "--quiet", "--disable-pip-version-check"]
    install += ["--no-user", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    install += ["--target", target]
    try:
        check([*install, "-r", folder / "uv.txt"], env=env, pass_fds=(held,))
    except CommandError as error:
        raise explained(error, VENV) from None
    return target / "bin" / "uv"


def _pip(folder: Path, held: int) -> Sequence[Word]:
    """Return the pip command: from a new venv, or the system's if ensurepip is missing (Debian).

    Raises ``EnvironmentLacksError`` if there is neither.
    """
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
        f"sudo apt-get install python3-venv   (or python{release}-venv), then run the same command"
        " again",
    )


if __name__ == "__main__":
    raise SystemExit(main())
