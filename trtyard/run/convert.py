"""``convert`` on the host: check the request, choose an executor, lock the output folder."""

import hashlib
import importlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from trtyard.core.ended import code_in
from trtyard.core.errors import (
    ConversionError,
    EnvironmentLacksError,
    ParityError,
    TrtyardError,
    UsageError,
)
from trtyard.core.files import PARTIAL_PREFIX
from trtyard.core.known_models import is_known, refuse_impossible
from trtyard.core.model_call import ModelCall, read_call
from trtyard.core.onnx_files import (
    check_file,
    file_in_folder,
    has_outside_data,
    is_onnx_file,
    refuse_unfit,
)
from trtyard.core.output_lock import is_held
from trtyard.core.precisions import reduced, refuse_lacking, refuse_unfit_options
from trtyard.core.report import JSON_FILE, ONNXRUNTIME_CUDA
from trtyard.core.request import (
    ENGINE,
    ONNX,
    ONNXRUNTIME_TENSORRT,
    TORCH_ONNXRUNTIME,
    ConversionRequest,
)
from trtyard.core.short_forms import HF, short_form, short_name
from trtyard.core.typed_paths import typed_path
from trtyard.lock.file import LockedRow
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import GPU_PACKAGE, ExecutorName, Row
from trtyard.matrix.rules import problems
from trtyard.report.result import show_result
from trtyard.run.fetched_weights import asked_file, with_weights
from trtyard.run.job import Executor, Job
from trtyard.run.limits import memory_in_bytes
from trtyard.run.overlay_resolving import refuse_contradicting
from trtyard.run.requirements import read_requirements
from trtyard.run.triton import lay_out, refuse_to_replace
from trtyard.system.folders import held_folder
from trtyard.system.terminal import say
from trtyard.system.uv import MATRIX_FILE, OUT

_BY_SIGNAL = 128  # plus the signal's number
MAX_FOLDER_NAME = 80  # characters; file systems take 255 bytes
# Characters of its parts for a model with arguments.
_MOST_OF_TARGET, _MOST_OF_ARGUMENTS, _MOST_OF_DIGEST = 40, 30, 8
_ORPHAN_SECONDS = 10  # how long a killed run's container may take to end
_ATTEMPTS = 100  # to make the output folder while other runs that end remove it


def job_of(request: ConversionRequest) -> Job:
    """Return the job for ``request``, after the checks that need no row environment.

    Raises:
        UsageError: a value of the request is not possible, or not possible in its row.
    """
    if not request.model:
        raise UsageError(
            "--model is missing",
            f"for example: ./run {request.task} --model faster_rcnn   "
            f"(more: ./run {request.task} --help)",
        )
    if not is_known(request.model) and _is_folder(request.model):
        request = request.replaced(model=file_in_folder(request.model))
    onnx_file = None
    if is_onnx_file(request.model):
        onnx_file = check_file(request.model)
        refuse_unfit(request)
    refuse_impossible(request.model, request.size)
    if request.searches(TORCH_ONNXRUNTIME) and is_onnx_file(request.model):
        raise UsageError(
            f"--bisect: {request.model} is an ONNX file, so there is nothing to compare it with",
            "./run bisect --model MODEL --onnx FILE, with the model in PyTorch that it comes from; "
            f"or compare the file with TensorRT: --between {ONNXRUNTIME_TENSORRT}",
        )
    if request.between and not request.bisect:
        raise UsageError("--between needs --bisect", f"--bisect --between {request.between}")
    call = _call(request.model)
    model_file = _existing("--model", call.place) if call.place.endswith(".py") else None
    row, locked = row_and_lock(request.row)
    if request.memory:
        memory_in_bytes(request.memory)
    if request.opset:
        _check_opset(row, request.opset)
    refuse_unfit_options(
        request.precision, request.calibrate, request.calibration, request.keep_fp32
    )
    rows = read_matrix(MATRIX_FILE).rows
    refuse_lacking(reduced(request.precision), row.name, row.flavour, row.tensorrt, rows)
    _check_runtime(request, row, rows)
    requirements = read_requirements(request.model, request.packages, model_file, row.exporter)
    refuse_contradicting(row, locked, requirements)
    weights, key = _file_and_key(request.weights)
    weights_file = asked_file(request.weights, request.model)
    if re.fullmatch(r"seeded(:\d+)?|pretrained", request.weights) or weights_file is not None:
        weights, key = "", ""
    compared = _compared_file(request)
    out = request.out
    return Job(
        row=row,
        locked=locked,
        request=request,
        out=typed_path(out) if out else OUT / row.name / folder_name(request.model),
        model_file=model_file,
        code_folder=Path.cwd() if call.name and call.place and model_file is None else None,
        requirements=requirements,
        short_folder=_short_folder(request.model),
        onnx_file=onnx_file,
        onnx_folder=_data_folder(onnx_file),
        input_file=_input_file(request.input) if onnx_file else None,
        compared_file=compared,
        compared_folder=_data_folder(compared),
        weights=_existing("--weights", weights),
        weights_key=key,
        weights_file=weights_file,
        image=_existing("--image", request.image),
        plugins=_existing("--plugins", request.plugins),
        ops=_existing("--ops", request.ops),
        calibrate=_existing("--calibrate", request.calibrate, may_be_folder=True),
    )


def convert(request: ConversionRequest, *, dry_run: bool) -> int:
    """Convert the model and show the report; return the pipeline's exit code (docs/design.md)."""
    job = job_of(request)
    row, locked, out = job.row, job.locked, job.out
    if request.where == "auto" and request.runtime is None and not dry_run:
        importlib.import_module("trtyard.run.in_docker").pull_if_missing(row, locked)
    executor, reason = executor_of(job)
    module = _module_of(executor)
    if dry_run:
        say(f"would {request.task} {request.model} on row {row.name} into {out}")
        say(f"would use {module.describe(row, locked)} ({reason})")
        if job.requirements:
            say(f"would add {', '.join(job.requirements.texts)} to its packages")
        return 0
    place = {"docker": "in Docker", "host": "on the host"}[executor]
    say(f"row {row.name} runs {place} ({reason})")
    with output_folder(out, end_orphans):
        if request.export:
            refuse_to_replace(out)
        before = written_at(out)
        job = with_downloads(job, executor)
        ended = module.convert(job)
        code, written = code_in(out), written_at(out) != before
        if code is None or (code in (0, ParityError.exit_code) and not written):
            raise _ended(ended)
        if written:
            show_result(out)
            lay_out(out, folder_name(job.request.model) if request.export else None)
        if ended != code:
            say(f"the result is complete, but its process {_how(ended)} after the conversion")
        return code


def with_downloads(job: Job, executor: ExecutorName) -> Job:
    """Return the job with the weights that ``--weights`` names, downloaded if necessary."""
    module = _module_of(executor)
    return with_weights(job, lambda words: module.output_of(job.row, job.locked, words))


def _check_runtime(request: ConversionRequest, row: Row, rows: Mapping[str, Row]) -> None:
    """Raise ``UsageError`` if the row has no package for --runtime, or --ops is without it."""
    if request.runtime is None:
        if request.ops is not None:
            raise UsageError(
                "--ops is the library of --runtime, which is missing",
                f"add --runtime {ONNXRUNTIME_CUDA}, or leave out --ops",
            )
    elif not row.gpu:
        having = ", ".join(one.name for one in rows.values() if one.gpu)
        raise UsageError(
            f"--runtime {request.runtime}: row {row.name} has no {GPU_PACKAGE}",
            f"choose a row that has it: {having}",
        )


def executor_of(job: Job) -> tuple[ExecutorName, str]:
    """Return the job's executor and the reason for it; ``UsageError`` if it cannot run there."""
    request = job.request
    if request.runtime is None:
        executor, reason = choose_executor(job.row, job.locked, request.where, request.until)
    else:
        if request.where == "docker":
            raise UsageError(
                f"--runtime {request.runtime} runs on the host, not in Docker",
                "leave out --in docker",
            )
        if job.row.host_until == ONNX and request.until != ONNX:
            raise UsageError(
                f"--runtime {request.runtime} runs on the host, where row {job.row.name} stops "
                "after ONNX",
                "add --until onnx",
            )
        executor, _ = choose_executor(job.row, job.locked, "host", request.until)
        reason = f"--runtime {request.runtime}"
    if executor == "host" and (request.memory or request.processes):
        raise UsageError(
            f"--memory and --processes need Docker, but this runs on the host: {reason}",
            "leave them out, or add --in docker",
        )
    return executor, reason


def written_at(folder: Path) -> tuple[int, int] | None:
    """Return inode and time of the report in ``folder``, which a new report changes; else None."""
    try:
        facts = (folder / JSON_FILE).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _ended(code: int) -> TrtyardError:
    """Return the error for a conversion that ended without a report."""
    words = f"the conversion {_how(code)} and left no report"
    if _signal_in(code) == signal.SIGKILL:
        return EnvironmentLacksError(
            f"{words}: most likely the machine ran out of memory",
            "free memory, or use a smaller --input or --size",
        )
    return ConversionError(
        words,
        "if the model's code ends the process (os._exit), raise an exception instead; otherwise a "
        "library crashed: to see where, put PYTHONFAULTHANDLER=1 in front of the command",
    )


def _how(code: int) -> str:
    number = _signal_in(code)
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"ended with exit code {code}"


def _signal_in(code: int) -> int:
    return -code if code < 0 else code - _BY_SIGNAL  # shells and containers add 128


def choose_executor(
    row: Row, lock: LockedRow, where: str, until: str = ENGINE
) -> tuple[ExecutorName, str]:
    """Return the executor for the option ``--in`` and the reason for the choice.

    Raises ``UsageError`` if the row cannot run there.
    """
    too_far = row.host_until == "onnx" and until != "onnx"
    sooner = f"row {row.name} stops after ONNX on the host: its TensorRT is not on PyPI"
    if where != "auto":
        if where not in row.executors:
            raise UsageError(
                f"row {row.name} does not support --in {where}",
                f"leave out --in {where}, or choose another row: ./run matrix",
            )
        if where == "host" and too_far:
            raise UsageError(sooner, "add --until onnx, or leave out --in host")
        return where, f"--in {where}"
    no_docker = _module_of("docker").why_not(row, lock)
    if no_docker is None:
        return "docker", "the row's image is built"
    if too_far:
        return "docker", sooner
    if _module_of("host").why_not(row, lock) is None:
        return "host", f"not in Docker: {no_docker}"
    return "docker", f"the row runs in Docker only; {no_docker}"


_MODULES = {"docker": "trtyard.run.in_docker", "host": "trtyard.run.on_host"}


def _module_of(executor: ExecutorName) -> Executor:
    # By name: the Docker client is imported only if it is needed.
    return cast(Executor, importlib.import_module(_MODULES[executor]))


def folder_name(model: str) -> str:
    """Return a folder name for a model: ``pkg.nets-make`` for ``pkg.nets:make``.

    With arguments, the name ends with some of them and a hash of all.
    """
    call = _call(model)
    target = _with_safe_characters(f"{call.place}:{call.name}" if call.typed else model)
    if not call.has_arguments:
        return target[-MAX_FOLDER_NAME:].strip("-.") or "model"
    digest = hashlib.sha256(call.arguments.encode("utf-8", "backslashreplace")).hexdigest()
    parts = (
        target[-_MOST_OF_TARGET:],
        _with_safe_characters(call.arguments).strip("-.")[:_MOST_OF_ARGUMENTS],
        digest[:_MOST_OF_DIGEST],
    )
    return "-".join(part.strip("-.") for part in parts if part.strip("-."))


def _with_safe_characters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def end_orphans(folder: Path) -> None:
    """Stop containers of killed runs that still write into ``folder``; the caller has locked it.

    A conversion on the host ends with the command that started it, a container does not. Raises
    ``EnvironmentLacksError`` if another process keeps writing.
    """
    importlib.import_module("trtyard.run.in_docker").end_orphans(folder)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while is_held(folder):
        if time.monotonic() > deadline:
            raise EnvironmentLacksError(
                f"a conversion from another command is writing into {folder}",
                "wait for it, stop it (find it with docker ps or ps), or use another --out",
            )
        time.sleep(0.05)


@contextmanager
def output_folder(
    folder: Path, end_orphans: Callable[[Path], None] = lambda _: None
) -> Iterator[int]:
    """Make and lock the folder, remove a killed run's partial files, and yield the lock.

    ``end_orphans`` is called before the removal. Yields the lock's file descriptor. At the end,
    partial files of this run are removed, and folders made here that are still empty.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with ExitStack() as stack:
        descriptor = _held(folder, stack)
        end_orphans(folder)
        _remove_partial(folder)
        try:
            yield descriptor
        finally:
            # While the lock is held: afterwards another run may use the folder.
            with suppress(OSError):
                _remove_partial(folder)
            with suppress(OSError):  # stops at the first folder that is not empty
                for one in made:
                    one.rmdir()


def _held(folder: Path, stack: ExitStack) -> int:
    """Make and lock the folder until ``stack`` ends; return the lock's file descriptor.

    Another run that ends may remove the empty folder or its parents: then it is made again.
    """
    problem: OSError | None = None
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = stack.enter_context(held_folder(folder, waiting=None))
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(13, os.strerror(13))
                return descriptor
            stack.close()
        except BlockingIOError:
            raise EnvironmentLacksError(
                f"another conversion is writing into {folder}", "wait for it, or use another --out"
            ) from None
        except (FileExistsError, NotADirectoryError):
            if any(one.exists() and not one.is_dir() for one in (folder, *folder.parents)):
                raise UsageError(f"--out {folder} is a file, not a folder") from None
        except FileNotFoundError as error:
            stack.close()
            problem = error
        except OSError as error:
            problem = error
            break
    said = problem.strerror if problem else "other runs keep removing it"
    raise EnvironmentLacksError(
        f"cannot write into {folder}: {said}", "use a folder that you own: --out FOLDER"
    )


def _remove_partial(folder: Path) -> None:
    for entry in folder.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _check_opset(row: Row, opset: int) -> None:
    """Raise ``UsageError`` if the row's exporter or TensorRT does not support the opset."""
    for what, problem in problems(replace(row, opset=opset)):
        if what == "opset":
            raise UsageError(f"--opset {problem}", f"row {row.name}'s default is {row.opset}")


def _file_and_key(weights: str) -> tuple[str, str]:
    """Split FILE#KEY into FILE and KEY; if FILE#KEY is itself a file, KEY is ""."""
    file, _, key = weights.rpartition("#")
    if not file or typed_path(weights).is_file():
        return weights, ""
    return file, key


def _compared_file(request: ConversionRequest) -> Path | None:
    """Return the file of --onnx.

    Raises:
        UsageError: there is no such file, or it is not for this request.
    """
    if request.onnx is None:
        return None
    if not request.bisect or is_onnx_file(request.model):
        raise UsageError(
            "--onnx compares an ONNX file with a model in PyTorch, and needs --bisect",
            "./run bisect --model MODEL --onnx FILE",
        )
    return check_file(request.onnx, "--onnx")


def _data_folder(file: Path | None) -> Path | None:
    """Return the folder of an ONNX file that has weights in other files; None for other files."""
    return file.parent if file and has_outside_data(file) else None


def _input_file(text: str | None) -> Path | None:
    """Return the file of --input; None if it gives shapes."""
    is_file = text is not None and text.lower().endswith((".npz", ".npy"))
    return _existing("--input", text) if is_file else None


def _short_folder(model: str) -> Path | None:
    """Return the folder of ``hf:FOLDER``; None for another model."""
    if short_form(model) != HF:
        return None
    folder = typed_path(short_name(model))
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"--model {model}: {folder} is not a folder with a config.json",
            "give the folder of a model that is saved with save_pretrained(); nothing is fetched",
        )
    return folder


def _call(model: str) -> ModelCall:
    """Return the parts of a user's own model; without any for another model."""
    is_other = is_known(model) or is_onnx_file(model) or short_form(model)
    return ModelCall("", "") if is_other else read_call(model)


def _is_folder(model: str) -> bool:
    try:
        return typed_path(model).is_dir()
    except (OSError, UsageError):  # too long for a path, or no such user
        return False


def _existing(option: str, path: str | None, *, may_be_folder: bool = False) -> Path | None:
    if not path:
        return None
    found = typed_path(path)
    if not found.is_file() and not (may_be_folder and found.is_dir()):
        raise UsageError(f"{option} {path}: file not found")
    return found
