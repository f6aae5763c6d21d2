"""The host executor: runs a row in a virtual environment that is made from the lock."""

import os
from collections.abc import Sequence

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.file import LockedRow
from trtyard.matrix.row import Row
from trtyard.run.environment import (
    RowEnvironment,
    existing_environment,
    make_environment,
)
from trtyard.run.job import Job
from trtyard.run.onnxruntime_headers import onnxruntime_headers
from trtyard.run.overlay import make_gpu_overlay, make_overlay
from trtyard.run.pycuda import build_pycuda, has_cuda_device
from trtyard.system.interpreters import find_python
from trtyard.system.processes import Word, run_plainly
from trtyard.system.processes import output_of as printed
from trtyard.system.terminal import say
from trtyard.system.uv import ROOT

# The user's values of these would change which code the row's Python imports.
_DROPPED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONWARNINGS")
_WITHOUT_CACHE_PREFIX = ("3.6", "3.7")  # PYTHONPYCACHEPREFIX needs Python 3.8


def why_not(row: Row, locked: LockedRow) -> str | None:  # noqa: ARG001 - Executor's signature
    """Return why the row cannot run on the host, or None if it can."""
    return None if "host" in row.executors else f"row {row.name} runs in Docker only"


def describe(row: Row, locked: LockedRow) -> str:
    """Return what would run and what would be made first, for ``--dry-run``.

    Raises ``EnvironmentLacksError`` if the row's Python is not installed.
    """
    ready = existing_environment(row, locked)
    if ready is None:
        find_python(row.host_pythons)
        return "a virtual environment on this machine, to be made first"
    return f"the virtual environment in {ready.folder}"


def output_of(row: Row, locked: LockedRow, words: Sequence[str]) -> str:
    """Return what a command of the pipeline prints; make the environment first if needed."""
    environment = make_environment(row, locked)
    command: list[Word] = [environment.python, "-m", "trtyard.pipeline", *words]
    command += ["--row-file", environment.row_file]
    return printed(command, env=pipeline_variables(environment))


def convert(job: Job) -> int:
    """Run the job in the row's environment and return its exit code; make it first if needed."""
    environment = make_environment(job.row, job.locked)
    if has_cuda_device():
        build_pycuda(environment, job.locked.sdists_for(environment.python_version))
    words = job.arguments("host", str(environment.row_file))
    if job.requirements:
        version = environment.python_version
        overlay = make_overlay(job.row, job.locked, version, job.requirements)
        words += ["--package-folder", str(overlay.folder)]
    if job.request.runtime is not None and has_cuda_device():
        overlay = make_gpu_overlay(job.row, job.locked, environment.python_version)
        words += ["--gpu-packages", str(overlay.folder)]
        if job.ops is None:
            words += _headers()
    words += ["--plugin-cache", str(environment.folder / "plugins"), "--parent", str(os.getpid())]
    command: list[Word] = [environment.python, "-m", "trtyard.pipeline", *words]
    return run_plainly(command, env=pipeline_variables(environment))


def _headers() -> list[str]:
    """Return the words that name ONNX Runtime's headers; warn and return none without them."""
    try:
        return ["--onnxruntime-headers", str(onnxruntime_headers())]
    except EnvironmentLacksError as error:
        say(f"warning: the kernels are not compiled for ONNX Runtime: {error.message}")
        say("  custom ops run with their function bodies there; or give a library with --ops")
        return []


def pipeline_variables(environment: RowEnvironment | None = None) -> dict[str, str]:
    """Return the environment variables for the row's Python, with trtyard's code on its path.

    The pipeline adds the user's folders itself, after the row's packages. With ``environment``,
    bytecode goes to its folder: never beside the user's files, and torch is compiled only once even
    if PYTHONDONTWRITEBYTECODE is set.
    """
    env = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    env["PYTHONPATH"] = str(ROOT)
    env["PYTHONSAFEPATH"] = "1"  # otherwise -m puts the user's folder before the row's packages
    env["PYTHONNOUSERSITE"] = "1"
    env["PYTHONUNBUFFERED"] = "1"  # show stages at once, also in a pipe or file
    if environment is not None and environment.python_version == "3.6" and not _speaks_utf8():
        # In the C locale Python 3.6 reads paths as ASCII. Later releases do not.
        env["LC_ALL"] = "C.UTF-8"
    if environment is not None and environment.python_version not in _WITHOUT_CACHE_PREFIX:
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = str(environment.folder / "bytecode")
    return env


def _speaks_utf8() -> bool:
    """Return whether the encoding of the user's locale is UTF-8."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    chosen = next((os.environ[name] for name in names if os.environ.get(name)), "C")
    return "utf" in chosen.lower()
