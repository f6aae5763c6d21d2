"""Reads jobs.toml: each combination of row, model and precision is a conversion.

Every option of ``convert`` is a key, by its name on the command line. All conversions are checked
before any starts.
"""

import hashlib
import json
import keyword
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from trtyard.core.errors import TrtyardError, UsageError
from trtyard.core.precisions import FP32
from trtyard.core.request import ConversionRequest, Option
from trtyard.core.typed_paths import typed_path
from trtyard.matrix.row import ExecutorName
from trtyard.run.convert import executor_of, folder_name, job_of
from trtyard.run.fetched_weights import shown_options
from trtyard.run.job import Job
from trtyard.system.reading import AtLeastOne, Between, Reader, parse_toml, schema_of, shape_of

HINT = "see the example in docs/scaling.md"
_KEYS_OF_THEIR_OWN = ("model", "row", "precision", "out")  # lists here, and ``out`` is the batch's
_DECIDING = ("where", "until", "memory", "processes")  # what the executor depends on, and the row
_MOST = 1 << 31
_DIGITS = 8  # of the hash in a folder's name


@dataclass(frozen=True, kw_only=True)
class _Lists:
    models: AtLeastOne[str]
    rows: AtLeastOne[str] = ("default",)
    precisions: AtLeastOne[str] = (FP32,)


def _kind_of(option: Option) -> Any:
    kind = option.kinds[0]
    if kind is list:
        return tuple[str, ...]
    return Annotated[int, Between(1, _MOST)] if kind is int else kind


_OPTIONS: Mapping[str, str] = {  # the key's field to the request's: in_ to where
    one.name.replace("-", "_") + "_" * keyword.iskeyword(one.name): name
    for name, one in ConversionRequest.options().items()
    if name not in _KEYS_OF_THEIR_OWN
}
_Table: Any = make_dataclass(
    "_Table",
    [
        (key, _kind_of(ConversionRequest.options()[name]), field(default=None))
        for key, name in _OPTIONS.items()
    ],
    bases=(_Lists,),
    frozen=True,
    kw_only=True,
)
_File: Any = make_dataclass("_File", [("jobs", AtLeastOne[_Table])], frozen=True, kw_only=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchJob:
    """One conversion of the file."""

    index: int  # in the file, from 0
    job: Job  # ``job.out`` is its folder
    executor: ExecutorName

    @property
    def name(self) -> str:
        """The folder's path below the batch's own, the same in every run: ROW/NAME."""
        return f"{self.job.row.name}/{self.job.out.name}"

    @property
    def words(self) -> tuple[str, str, str]:
        """Row, model and precision."""
        return self.job.row.name, self.job.request.model, self.job.request.precision


def jobs_schema() -> dict[str, Any]:
    """Return the JSON schema of jobs.toml."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema_of(shape_of(_File))}


def existing_file(file: str) -> Path:
    """Return the absolute path of a jobs file; ``UsageError`` if there is none."""
    path = typed_path(file)
    if not path.exists():
        raise UsageError(f"{path} does not exist", HINT)
    return path


@contextmanager
def in_folder_of(file: Path) -> Iterator[None]:
    """Make the file's folder the current one: paths in the file are relative to it."""
    before = Path.cwd()
    os.chdir(file.parent)
    try:
        yield
    finally:
        os.chdir(before)


def read_jobs(file: Path, out: Path) -> tuple[BatchJob, ...]:
    """Return the conversions of ``file``, whose folder is the current one; results go to ``out``.

    Raises:
        UsageError: the file cannot be read, or some of its conversions cannot run or are
            duplicates. The message lists all of them.
    """
    reader = Reader(file=file, error=UsageError, hint=HINT, dashes=True)
    tables = reader.read(_File, _content(file)).jobs
    found: dict[Path, str] = {}
    executors: dict[tuple[object, ...], ExecutorName] = {}  # to ask Docker once for each kind
    jobs: list[BatchJob] = []
    problems: list[tuple[str, TrtyardError]] = []
    for number, table in enumerate(tables):
        for words in _combinations(table):
            place = f"jobs[{number}]: {', '.join(words)}"
            try:
                job = _job(table, words, out)
                if job.out in found:
                    raise UsageError(f"is a duplicate of {found[job.out]}", "remove one of them")
                kind = (job.row.name, *(getattr(job.request, name) for name in _DECIDING))
                executor = executors.get(kind) or executor_of(job)[0]
            except TrtyardError as error:
                problems.append((place, error))
            else:
                executors[kind] = executor
                found[job.out] = place
                jobs.append(BatchJob(index=len(jobs), job=job, executor=executor))
    if problems:
        raise _all(file, problems)
    return tuple(jobs)


def _content(file: Path) -> dict[str, Any]:
    try:
        return parse_toml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", HINT) from None
    except ValueError as error:
        raise UsageError(f"{file.name} is not TOML: {error}", HINT) from None


def _combinations(table: Any) -> Iterator[tuple[str, str, str]]:
    for row in table.rows:
        for model in table.models:
            for precision in table.precisions:
                yield row, model, precision


def _job(table: Any, words: tuple[str, str, str], out: Path) -> Job:
    row, model, precision = words
    given = {name: getattr(table, key) for key, name in _OPTIONS.items()}
    texts = {
        name: value if isinstance(value, bool | tuple) else str(value)
        for name, value in given.items()
        if value is not None
    }
    request = ConversionRequest.from_words(
        {**texts, "row": row, "model": model, "precision": precision}
    )
    job = job_of(request)
    folder = out / job.row.name / _folder(request)
    request = job.request.replaced(row=job.row.name, out=str(folder))
    return replace(job, request=request, out=folder)


def _folder(request: ConversionRequest) -> str:
    """Return a readable folder name that differs for each set of options."""
    given = {name: value for name, value in shown_options(request).items() if name != "row"}
    key = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:_DIGITS]
    return f"{folder_name(request.model)}-{request.precision.replace(',', '-')}-{key}"


def _all(file: Path, problems: Sequence[tuple[str, TrtyardError]]) -> TrtyardError:
    worst = max((error for _, error in problems), key=lambda error: error.exit_code)
    lines = [f"{place}: {error}".replace("\n", "\n  ") for place, error in problems]
    count = "1 conversion" if len(lines) == 1 else f"{len(lines)} conversions"
    text = "\n  ".join([f"{file.name}: {count} cannot run, so none was started", *lines])
    return type(worst)(text)
