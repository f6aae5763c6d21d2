"""What a batch knows of a conversion that ended: its exit code, and what the report belongs to.

``batch.json`` is beside report.json. A conversion is finished if it passed, and its options, its
row's lock, its input files and trtyard's version are the same as now.
"""

import contextlib
import functools
import hashlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from trtyard import __version__
from trtyard.core.errors import (
    BUG_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    ConversionError,
    EnvironmentLacksError,
    IntegrityError,
    ParityError,
    UsageError,
)
from trtyard.core.files import sha256_of, write_json
from trtyard.core.model_call import read_call
from trtyard.core.report import JSON_FILE
from trtyard.core.request import ConversionRequest
from trtyard.publish.kubernetes import FINAL_CODES
from trtyard.run.convert import written_at
from trtyard.run.fetched_weights import shown_options
from trtyard.run.job import Job
from trtyard.system.processes import Word
from trtyard.system.uv import ROOT

RESULT_FILE = "batch.json"
LOG_FILE = "convert.log"
_SCHEMA = 1
_WORDS = {
    0: "passed",
    ParityError.exit_code: "parity failed",
    UsageError.exit_code: "wrong usage",
    EnvironmentLacksError.exit_code: "the machine lacks something",
    ConversionError.exit_code: "the conversion failed",
    IntegrityError.exit_code: "a hash does not match",
    BUG_EXIT_CODE: "a bug in trtyard",
    INTERRUPTED_EXIT_CODE: "interrupted",
}
# From best to worst. 3 is the mildest failure: the same conversion may pass on another machine.
_SEVERITY = (
    0,
    EnvironmentLacksError.exit_code,
    ParityError.exit_code,
    ConversionError.exit_code,
    UsageError.exit_code,
    IntegrityError.exit_code,
    BUG_EXIT_CODE,
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a conversion ended."""

    exit_code: int
    identity: Mapping[str, str]
    report: str | None  # sha256 of the report.json that it wrote, or None
    seconds: float = 0.0
    note: str = ""  # why there is no report, if the scheduler ended the conversion


def identity_of(job: Job) -> dict[str, str]:
    """Return everything that a report belongs to, each with its version or hash."""
    used = job.locked if job.request.runtime else replace(job.locked, gpu=())
    locked = json.dumps([job.row.sha256(), asdict(used)], sort_keys=True)
    given = {name: value for name, value in shown_options(job.request).items() if name != "out"}
    return {
        "trtyard": __version__,
        f"the lock of row {job.row.name}": hashlib.sha256(locked.encode()).hexdigest(),
        "the options": json.dumps(given, sort_keys=True),
        "the packages": json.dumps(job.requirements.texts),
        **{str(path): _content_of(path) for path in _inputs(job)},
    }


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A conversion that starts: what it belongs to, and the report that an earlier one left."""

    folder: Path
    identity: Mapping[str, str]
    before: tuple[int, int] | None
    started: float

    @classmethod
    def of(cls, job: Job) -> "Attempt":
        """Return the attempt for a conversion that starts now; forget how an earlier one ended."""
        job.out.mkdir(parents=True, exist_ok=True)
        forget(job.out)
        return cls(
            folder=job.out,
            identity=identity_of(job),
            before=written_at(job.out),
            started=time.monotonic(),
        )

    def ended(self, exit_code: int) -> None:
        """Record how the conversion ended, in its folder."""
        is_new = written_at(self.folder) != self.before
        result = Result(
            exit_code=exit_code,
            identity=self.identity,
            report=sha256_of(self.folder / JSON_FILE) if is_new else None,
            seconds=time.monotonic() - self.started,
        )
        write_result(self.folder, result)


def write_result(folder: Path, result: Result) -> None:
    """Record in ``folder`` how its conversion ended."""
    write_json(folder / RESULT_FILE, {"schema": _SCHEMA, **asdict(result)})


def read_result(folder: Path) -> Result | None:
    """Return the conversion's result; None if it has not ended, or was not recorded whole."""
    try:
        value = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if value.pop("schema") != _SCHEMA:
            return None
        return Result(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_final(result: Result) -> bool:
    """Return whether another attempt would be of no use, as in ``FINAL_CODES``."""
    return result.exit_code in (0, *FINAL_CODES, INTERRUPTED_EXIT_CODE)


def forget(folder: Path) -> None:
    """Remove the result of an earlier run, before the conversion starts again."""
    (folder / RESULT_FILE).unlink(missing_ok=True)


def unfinished(job: Job) -> str | None:
    """Return why the conversion has to run, or None if it is finished."""
    result = read_result(job.out)
    if result is None:
        return "not run yet"
    if result.exit_code != 0:
        return result_in_words(result)
    now = identity_of(job)
    changed = [
        one for one in {**now, **result.identity} if now.get(one) != result.identity.get(one)
    ]
    if changed:
        return f"changed: {', '.join(changed)}"
    report = job.out / JSON_FILE
    if not report.is_file():
        return f"changed: {JSON_FILE} was removed"
    if sha256_of(report) != result.report:
        return f"changed: {JSON_FILE} was replaced"
    return None


def result_in_words(result: Result) -> str:
    """Return how the conversion ended, such as ``failed (4): the conversion failed``."""
    if result.exit_code == 0:
        return _WORDS[0]
    return f"failed ({result.exit_code}): {result.note or code_in_words(result.exit_code)}"


def code_in_words(code: int) -> str:
    """Return the meaning of an exit code; a negative one is a signal's number."""
    if code < 0:
        names = {one.value: one.name for one in signal.Signals}  # not those of real time
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return _WORDS.get(code, "ended unexpectedly")


def worst(codes: list[int]) -> int:
    """Return the exit code of a batch; a conversion that was killed counts as exit code 3."""
    known = [code if code in _SEVERITY else EnvironmentLacksError.exit_code for code in codes]
    return max(known, key=_SEVERITY.index, default=0)


def command_of(request: ConversionRequest) -> list[Word]:
    """Return the command that runs the request in a process of its own."""
    words = []
    for field, value in request.given().items():
        name = ConversionRequest.options()[field].name
        if value is True:
            words.append(f"--{name}")
        else:
            each = value if isinstance(value, list) else [value]
            words += [f"--{name}={one}" for one in each]
    return [sys.executable, "-I", ROOT / "trtyard" / "__main__.py", "convert", *words]


def _inputs(job: Job) -> list[Path]:
    """Return the user's files and folders that decide the result."""
    found = [path for path in job.inputs() if path != job.code_folder]
    return [*found, *(path for path in _modules(job) if path not in found)]


def _modules(job: Job) -> list[Path]:
    """Return the model's Python files, with those beside it that their import statements name."""
    folder = job.model_file.parent if job.model_file is not None else job.code_folder
    if folder is None:
        return []
    finder = ModuleFinder([str(folder)])
    # Broken code is an error of the conversion, not of the batch.
    with contextlib.suppress(SyntaxError, ImportError, OSError, ValueError, RecursionError):
        if job.model_file is not None:
            finder.run_script(str(job.model_file))
        else:
            finder.import_hook(read_call(job.request.model).place)
    files = (getattr(one, "__file__", None) for one in finder.modules.values())
    return sorted(Path(file) for file in files if file)


def _content_of(path: Path) -> str:
    """Return a file's hash; of a folder, the hash of the names, sizes and times in it."""
    if path.is_file():
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    listed: list[Any] = [
        (str(one.relative_to(path)), one.stat().st_size, one.stat().st_mtime_ns)
        for one in sorted(path.rglob("*"))
        if one.is_file()
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@functools.cache
def _sha256(path: Path, _size: int, _time: int) -> str:
    return sha256_of(path)
