"""Runs conversions as Slurm job arrays, one index each, and waits for them.

Slurm starts the conversions and requeues those of a node that goes away. ``slurm.json`` in the
batch's folder holds what was submitted, so that the same command waits for it again after Ctrl-C.
The nodes must see this repository and the batch's folder at the same paths. Slurm's accounting
(slurmdbd) is not needed.
"""

import json
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trtyard.batch.jobs_file import BatchJob
from trtyard.batch.record import (
    LOG_FILE,
    Result,
    forget,
    identity_of,
    is_final,
    read_result,
    write_result,
)
from trtyard.batch.slurm_task import write_job
from trtyard.core.errors import INTERRUPTED_EXIT_CODE, EnvironmentLacksError
from trtyard.core.files import write_json, write_text
from trtyard.core.request import ENGINE
from trtyard.publish.kubernetes import CPU, DEADLINE_SECONDS, MEMORY
from trtyard.report.words import counted
from trtyard.system.interruptions import held_back
from trtyard.system.processes import CommandError, output_of
from trtyard.system.templating import rendered
from trtyard.system.terminal import say
from trtyard.system.uv import ROOT

STATE_FILE = "slurm.json"
NO_CONSTRAINT = "none"
_TASK = Path(__file__).with_name("slurm_task.py")
# States of squeue(1) in which a job will not run again.
_ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
)
_BY_ITSELF = ("COMPLETED", "FAILED")
_CANCELLED = "CANCELLED"
_NOT_STARTED = "N/A"  # in place of an index
_BY_THE_LIMIT = ("DEADLINE", "TIMEOUT")  # another attempt would take as long
# A result that a node wrote may take this long to appear here (NFS caches names of a folder).
_APPEARS_SECONDS = 30.0
_POLL_SECONDS = (1.0, 15.0)  # at first, and after a while
_SILENT_SECONDS = 600.0  # how long Slurm's controller may not answer


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What the user may choose."""

    gpus: int
    constraint: str  # "" for the row's own
    retries: int
    words: Sequence[str]  # options of sbatch


@dataclass(kw_only=True)
class Submission:
    """The arrays that may still run, by Slurm's id, and how often each conversion was submitted."""

    arrays: dict[str, dict[str, str]] = field(default_factory=dict)  # index to the folder's name
    attempts: dict[str, int] = field(default_factory=dict)  # by the folder's name


def open_submission(folder: Path) -> Submission | None:
    """Return what an earlier command submitted and did not wait for, or None."""
    file = folder / STATE_FILE
    try:
        return Submission(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise EnvironmentLacksError(
            f"{file} is damaged, so the Slurm arrays that may still run are not known",
            f"list them: squeue --me --name=trtyard; if there are none, delete {file}",
        ) from None


def run_on_slurm(
    jobs: Sequence[BatchJob],
    chosen: Sequence[BatchJob],
    folder: Path,
    options: SlurmOptions,
    prepare: Callable[[Sequence[BatchJob]], None],
) -> None:
    """Submit ``chosen``, wait for all, and submit again what ended with exit code 3 or was killed.

    If an earlier command's arrays have not ended, this waits for them first. ``prepare`` is called
    before conversions are submitted.

    Raises:
        EnvironmentLacksError: there is no Slurm here, or it refuses the array.
    """
    if shutil.which("sbatch") is None:
        raise EnvironmentLacksError(
            "sbatch is not installed",
            "run this command on a login node of the Slurm cluster, or leave out --on slurm",
        )
    submission = open_submission(folder)
    if submission is None:
        submission = Submission()
    else:
        say(f"waiting for Slurm array {_ids(submission)}, which an earlier command submitted")
    try:
        _run_all(jobs, chosen, submission, folder, options, prepare)
    except (KeyboardInterrupt, SystemExit):
        if submission.arrays:
            say(f"Slurm array {_ids(submission)} goes on without this command")
            say("  wait for it: the same command again, which submits nothing twice")
            say(f"  cancel it: scancel {' '.join(submission.arrays)}")
        raise
    (folder / STATE_FILE).unlink(missing_ok=True)
    for log in folder.glob("slurm-*.log"):  # of the scripts; the conversions have their own
        if log.stat().st_size == 0:
            log.unlink()


def _run_all(
    jobs: Sequence[BatchJob],
    chosen: Sequence[BatchJob],
    submission: Submission,
    folder: Path,
    options: SlurmOptions,
    prepare: Callable[[Sequence[BatchJob]], None],
) -> None:
    by_name = {job.name: job for job in jobs}
    while True:
        _wait(submission, folder, by_name)
        new = [job for job in chosen if job.name not in submission.attempts]
        again = [
            by_name[name] for name in _to_retry(submission, folder, options) if name in by_name
        ]
        if not new and not again:
            return
        if again:
            say(f"{counted(len(again), 'conversion')} submitted again: exit code 3, or killed")
        prepare([*new, *again])
        _submit([*new, *again], submission, folder, options)


def _to_retry(submission: Submission, folder: Path, options: SlurmOptions) -> list[str]:
    results = {name: read_result(folder / name) for name in submission.attempts}
    return [
        name
        for name, result in results.items()
        if not (result is not None and is_final(result))
        and submission.attempts[name] <= options.retries
    ]


def _submit(
    jobs: Sequence[BatchJob], submission: Submission, folder: Path, options: SlurmOptions
) -> None:
    """Submit one array for each kind of node; none if Slurm refuses one of them."""
    groups: dict[tuple[int, str], list[BatchJob]] = {}
    for job in jobs:
        groups.setdefault(_node_of(job, options), []).append(job)
    submitted: list[str] = []
    try:
        for number, ((gpus, constraint), each) in enumerate(groups.items()):
            script = folder / f"slurm-{number}.sh"
            write_text(script, script_text(each, gpus=gpus, constraint=constraint))
            for job in each:
                write_job(job.job)
                forget(job.job.out)
                (job.job.out / LOG_FILE).unlink(missing_ok=True)
            with held_back():  # or an array runs that nobody knows
                name = _sbatch(script, [job.index for job in each], folder, options.words)
                submitted.append(name)
                submission.arrays[name] = {str(job.index): job.name for job in each}
                for job in each:
                    submission.attempts[job.name] = submission.attempts.get(job.name, 0) + 1
                write_json(folder / STATE_FILE, asdict(submission))
            say(f"submitted Slurm array {name}: {counted(len(each), 'conversion')}")
    except CommandError as error:
        if submitted:
            output_of(["scancel", *submitted])
        (folder / STATE_FILE).unlink(missing_ok=True)
        raise EnvironmentLacksError(
            f"Slurm refused the array: {error.tail.strip()}",
            "options of sbatch follow --: ./run batch FILE --on slurm -- --partition=NAME;"
            " partitions and features: sinfo -o '%P %G %f'",
        ) from None


def _sbatch(script: Path, indexes: Sequence[int], folder: Path, words: Sequence[str]) -> str:
    """Submit the array and return its id. Options after ``words`` replace the user's."""
    log = str(folder / "slurm-").replace("\\", "\\\\").replace("%", "%%") + "%A.log"
    listed = ",".join(map(str, indexes))
    answer = output_of(
        ["sbatch", *words, "--parsable", f"--output={log}", f"--array={listed}", script]
    )
    name = answer.strip().partition(";")[0]  # the cluster's name follows, if there are several
    if not name.isdecimal():
        raise CommandError(["sbatch"], 0, f"expected a job's number, not {answer.strip()!r}")
    return name


def script_text(jobs: Sequence[BatchJob], *, gpus: int, constraint: str) -> str:
    """Return the job script of an array with these conversions."""
    facts = {
        "minutes": DEADLINE_SECONDS // 60,
        "cpus": CPU,
        "memory": MEMORY.removesuffix("i"),  # Slurm's G is Kubernetes' Gi
        "gpus": gpus,
        "constraint": constraint,
        "folders": [(job.index, shlex.quote(str(job.job.out))) for job in jobs],
        "python": shlex.quote(sys.executable),
        "task": shlex.quote(str(_TASK)),
        "log": LOG_FILE,
    }
    return rendered(ROOT / "templates" / "batch", "slurm.sh.j2", facts)


def _node_of(job: BatchJob, options: SlurmOptions) -> tuple[int, str]:
    """Return the GPUs and the constraint of the nodes that can run the conversion."""
    constraint = "" if options.constraint == NO_CONSTRAINT else options.constraint
    if options.gpus == 0 or job.job.request.until != ENGINE:
        return 0, constraint
    return options.gpus, constraint if options.constraint else _constraint_of(job)


def _constraint_of(job: BatchJob) -> str:
    """Return the features of this cluster that stand for GPUs which the row's engines run on.

    Slurm refuses a feature that no node has.
    """
    known = set(re.split(r"[\s,]+", output_of(["sinfo", "--noheader", "--format=%f"])))
    wanted = [f"cc{capability}" for capability in job.job.row.runs_on]
    found = [feature for feature in wanted if feature in known]
    if not found:
        raise EnvironmentLacksError(
            f"no node of this cluster has one of the features {', '.join(wanted)}, so none is known"
            f" to have a GPU for row {job.job.row.name}",
            "select nodes with --constraint FEATURE, allow all with --constraint none, or use no"
            " GPUs with --gpus 0",
        )
    return "|".join(found)


def _wait(submission: Submission, folder: Path, jobs: Mapping[str, BatchJob]) -> None:
    """Wait until every index of the arrays has ended, and show the progress."""
    said, start, missing = "", time.monotonic(), dict[str, float]()
    pending = set[tuple[str, str]]()
    while submission.arrays:
        states = _states(list(submission.arrays))
        counts = Counter[str]()
        for number, indexes in list(submission.arrays.items()):
            for index, name in list(indexes.items()):
                state, reason = _state_of((number, index), states, pending)
                if _has_ended(folder / name, state, missing):
                    del indexes[index]
                    _note_end(folder / name, state, jobs.get(name))
                else:
                    waits = state == "PENDING" and reason not in ("", "None")
                    counts[f"{(state or 'ending').lower()}{f' ({reason})' * waits}"] += 1
            if not indexes:
                del submission.arrays[number]
        now = ", ".join(f"{count} {words}" for words, count in sorted(counts.items()))
        if submission.arrays and now != said:
            say(f"Slurm array {_ids(submission)}: {now}")
            said = now
        if submission.arrays:
            first, last = _POLL_SECONDS
            time.sleep(min(last, first + (time.monotonic() - start) / 10))


def _state_of(
    index: tuple[str, str],
    states: Mapping[tuple[str, str], tuple[str, str]],
    pending: set[tuple[str, str]],
) -> tuple[str, str]:
    """Return state and reason of an array's index, "" if Slurm does not know it any more.

    Slurm lists what was cancelled before it started without an index, or not at all; ``pending``
    holds what has not started.
    """
    found = states.get(index)
    if found is None:
        return states.get((index[0], _NOT_STARTED), (_CANCELLED if index in pending else "", ""))
    if found[0] == "PENDING":
        pending.add(index)
    else:
        pending.discard(index)
    return found


def _has_ended(folder: Path, state: str, missing: dict[str, float]) -> bool:
    """Return whether a conversion has ended; ``state`` is squeue's, "" if it knows none."""
    result = read_result(folder)
    if result is not None and is_final(result):
        return True
    if state and state not in _ENDED:  # also if Slurm requeues what ended with exit code 3
        missing.pop(str(folder), None)
        return False
    if result is not None or (state and state not in _BY_ITSELF):
        return True
    since = missing.setdefault(str(folder), time.monotonic())
    return time.monotonic() - since > _APPEARS_SECONDS


def _note_end(folder: Path, state: str, job: BatchJob | None) -> None:
    """Record the end of a conversion that Slurm ended before it could do so itself."""
    if job is None or read_result(folder) is not None:
        return
    code, note = EnvironmentLacksError.exit_code, f"Slurm ended it: {state or 'state unknown'}"
    if state in _BY_ITSELF:
        note = f"the job script ended without a result: {folder.parents[1]}/slurm-*.log"
    if state == _CANCELLED:
        code, note = INTERRUPTED_EXIT_CODE, "cancelled"
    elif state in _BY_THE_LIMIT:
        code = INTERRUPTED_EXIT_CODE
        note = f"{note}; give it more time: -- --time=HOURS:00:00"
    write_result(
        folder, Result(exit_code=code, identity=identity_of(job.job), report=None, note=note)
    )


def _states(arrays: Sequence[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return state and reason of every index that Slurm still knows, by array and index."""
    words = ["--noheader", "--array", "--states=all", "--format=%F|%K|%T|%r"]
    deadline = time.monotonic() + _SILENT_SECONDS
    while True:
        try:
            listed = output_of(["squeue", *words, f"--jobs={','.join(arrays)}"])
            break
        except CommandError as error:
            if "Invalid job id" in error.tail:  # all ended some minutes ago
                return {}
            if time.monotonic() > deadline:
                raise
            say(f"Slurm does not answer, asking again: {error.tail.strip()}")
            time.sleep(_POLL_SECONDS[1])
    found = {}
    for line in listed.splitlines():
        array, index, state, reason = line.split("|", 3)
        found[array, index] = state, reason
    return found


def _ids(submission: Submission) -> str:
    return ", ".join(submission.arrays)
