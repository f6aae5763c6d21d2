"""``convert`` on the host side: check the request, choose an executor, guard the output folder."""

import importlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from trtyard.core.errors import (
    INTERRUPTED_EXIT_CODE,
    ConversionError,
    EnvironmentLacksError,
    IntegrityError,
    ParityError,
    TrtyardError,
    UsageError,
)
from trtyard.core.files import PARTIAL_PREFIX
from trtyard.core.known_models import refuse_impossible
from trtyard.core.output_lock import is_held
from trtyard.core.report import JSON_FILE
from trtyard.core.request import ENGINE, ConversionRequest
from trtyard.lock.file import LockedRow
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.row import ExecutorName, Row
from trtyard.matrix.rules import problems
from trtyard.report.result import show_result
from trtyard.run.job import Executor, Job
from trtyard.run.limits import memory_in_bytes
from trtyard.system.folders import locked
from trtyard.system.terminal import say
from trtyard.system.uv import OUT

_ERRORS = (ParityError, UsageError, EnvironmentLacksError, ConversionError, IntegrityError)
_EXIT_CODES = {0, INTERRUPTED_EXIT_CODE, *(error.exit_code for error in _ERRORS)}
_BY_SIGNAL = 128  # plus the signal's number
MAX_FOLDER_NAME = 80  # characters; file systems take 255 bytes
_ORPHAN_SECONDS = 10  # how long what was ended may take to be gone
_ATTEMPTS = 100  # at making a folder that runs which end remove


def job_of(request: ConversionRequest) -> Job:
    """Return the job that ``request`` asks for, checked as far as this side can.

    Raises:
        UsageError: the request has a value that no row, or not its row, can convert.
    """
    if not request.model:
        raise UsageError(
            "--model is missing",
            "name one: ./run convert --model faster_rcnn   (more: ./run convert --help)",
        )
    refuse_impossible(request.model, request.size)
    module, _, name = request.model.rpartition(":")
    model_file = _existing("--model", module) if module.endswith(".py") else None
    row, locked = row_and_lock(request.row)
    if request.memory:
        memory_in_bytes(request.memory)
    if request.opset:
        _check_opset(row, request.opset)
    weights, key = _file_and_key(request.weights)
    if re.fullmatch(r"seeded(:\d+)?|pretrained", request.weights):
        weights, key = "", ""
    out = request.out
    return Job(
        row=row,
        locked=locked,
        request=request,
        out=Path(out).expanduser().absolute()
        if out
        else OUT / row.name / folder_name(request.model),
        model_file=model_file,
        code_folder=Path.cwd() if name and module and model_file is None else None,
        weights=_existing("--weights", weights),
        weights_key=key,
        image=_existing("--image", request.image),
        plugins=_existing("--plugins", request.plugins),
    )


def convert(request: ConversionRequest, *, dry_run: bool) -> int:
    """Convert as asked; return the pipeline's exit code (design.md section 3)."""
    job = job_of(request)
    row, locked, out = job.row, job.locked, job.out
    if request.where == "auto" and not dry_run:
        importlib.import_module("trtyard.run.in_docker").pull_if_missing(row, locked)
    executor, reason = choose_executor(row, locked, request.where, request.until)
    if executor == "host" and (request.memory or request.processes):
        raise UsageError(
            f"--memory and --processes limit a container, and this runs on the host; {reason}",
            "leave them out, or add --in docker",
        )
    module = _module_of(executor)
    if dry_run:
        say(f"would convert {request.model} on row {row.name} into {out}")
        say(f"would use {module.describe(row, locked)}; {reason}")
        return 0
    place = {"docker": "in Docker", "host": "on the host"}[executor]
    say(f"row {row.name} runs {place}; {reason}")
    with output_folder(out, end_orphans):
        before = _written_at(out)
        code = module.convert(job)
        if code not in _EXIT_CODES or (code == 0 and _written_at(out) == before):
            raise _ended(code)
        if _written_at(out) != before:
            show_result(out)
        return code


def _written_at(folder: Path) -> tuple[int, int] | None:
    """Return what tells one report from the next; None where there is none."""
    try:
        facts = (folder / JSON_FILE).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _ended(code: int) -> TrtyardError:
    """Return the error of a conversion that did not come to its end, nor to an error of its own."""
    number = -code if code < 0 else code - _BY_SIGNAL  # a shell's or a container's way to say it
    try:
        how = f"was ended by {signal.Signals(number).name}"
    except ValueError:
        how = f"ended with exit code {code}"
    words = f"the conversion {how} and left no report"
    if number == signal.SIGKILL:
        return EnvironmentLacksError(
            f"{words}: most often memory ran out", "free some, or give a smaller --input or --size"
        )
    return ConversionError(
        words,
        "if your model's code ends the process (os._exit), let it raise instead; otherwise a "
        "library crashed: PYTHONFAULTHANDLER=1 in front of the command shows where",
    )


def choose_executor(
    row: Row, lock: LockedRow, where: str, until: str = ENGINE
) -> tuple[ExecutorName, str]:
    """Return the executor for what the user asked, and the reason in half a sentence."""
    too_far = row.host_until == "onnx" and until != "onnx"
    sooner = f"on the host row {row.name} goes as far as ONNX: its TensorRT is no PyPI package"
    if where != "auto":
        if where not in row.executors:
            raise UsageError(
                f"row {row.name} does not run in {where}",
                f"leave out --in {where}, or take another row: ./run matrix",
            )
        if where == "host" and too_far:
            raise UsageError(sooner, "add --until onnx, or leave out --in host")
        return where, f"asked for with --in {where}"
    no_docker = _module_of("docker").why_not(row, lock)
    if no_docker is None:
        return "docker", "the engine answers and has the row's image"
    if too_far:
        return "docker", sooner
    if _module_of("host").why_not(row, lock) is None:
        return "host", f"in Docker it cannot: {no_docker}"
    return "docker", f"it runs nowhere else, and {no_docker}"


_MODULES = {"docker": "trtyard.run.in_docker", "host": "trtyard.run.on_host"}


def _module_of(executor: ExecutorName) -> Executor:
    # By name, so that the Docker client is not loaded where it is not asked.
    return cast(Executor, importlib.import_module(_MODULES[executor]))


def folder_name(model: str) -> str:
    """Return a name that is safe for a folder: ``pkg.nets:make`` gives ``pkg.nets-make``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model)[-MAX_FOLDER_NAME:].strip("-.") or "model"


def end_orphans(folder: Path) -> None:
    """End what killed runs have left that still writes into ``folder``, which the caller holds.

    A conversion on the host ends with the command that started it, a container does not.
    ``EnvironmentLacksError`` where something goes on writing.
    """
    importlib.import_module("trtyard.run.in_docker").end_orphans(folder)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while is_held(folder):
        if time.monotonic() > deadline:
            raise EnvironmentLacksError(
                f"a conversion that was started elsewhere is writing into {folder}",
                "wait for it or end it (docker ps; ps), or give another --out",
            )
        time.sleep(0.05)


@contextmanager
def output_folder(
    folder: Path, end_orphans: Callable[[Path], None] = lambda _: None
) -> Iterator[int]:
    """Make the folder, hold it against other runs, clear what a killed run left half-written.

    ``end_orphans`` is called before anything is cleared. Yields the descriptor that holds the
    folder. At the end what is half-written then is removed too, for
    whoever wrote it had to be killed, and so is a folder that stayed empty.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with ExitStack() as stack:
        descriptor = _held(folder, stack)
        end_orphans(folder)
        _remove_partial(folder)
        try:
            yield descriptor
        finally:
            # While it is held: afterwards it may be another run's.
            with suppress(OSError):
                _remove_partial(folder)
            with suppress(OSError):  # the first that is not empty ends it
                for one in made:
                    one.rmdir()


def _held(folder: Path, stack: ExitStack) -> int:
    """Make the folder and hold it in ``stack``; return the descriptor.

    A run that ends removes it, or a folder above it, if it is empty: then it is made again.
    """
    problem: OSError | None = None
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = stack.enter_context(locked(folder, waiting=None))
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(13, os.strerror(13))
                return descriptor
            stack.close()
        except BlockingIOError:
            raise EnvironmentLacksError(
                f"another convert is writing into {folder}", "wait for it, or give another --out"
            ) from None
        except (FileExistsError, NotADirectoryError):
            if any(one.exists() and not one.is_dir() for one in (folder, *folder.parents)):
                raise UsageError(f"--out {folder}: this is a file, not a folder") from None
        except FileNotFoundError as error:
            stack.close()
            problem = error
        except OSError as error:
            problem = error
            break
    said = problem.strerror if problem else "other runs remove it again and again"
    raise EnvironmentLacksError(
        f"cannot write into {folder}: {said}", "give a folder that you own with --out"
    )


def _remove_partial(folder: Path) -> None:
    for entry in folder.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _check_opset(row: Row, opset: int) -> None:
    """``UsageError`` where the row's exporter does not write it, or its TensorRT not take it."""
    for what, problem in problems(replace(row, opset=opset)):
        if what == "opset":
            raise UsageError(f"--opset {problem}", f"row {row.name} itself exports at {row.opset}")


def _file_and_key(weights: str) -> tuple[str, str]:
    """Return FILE and KEY of FILE#KEY; a file's own name may hold the character."""
    file, _, key = weights.rpartition("#")
    if not file or Path(weights).expanduser().is_file():
        return weights, ""
    return file, key


def _existing(option: str, path: str | None) -> Path | None:
    if not path:
        return None
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        raise UsageError(f"{option} {path}: there is no such file")
    return found
