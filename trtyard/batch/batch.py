"""``batch``: many conversions from one file, on this machine or as Slurm arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trtyard.batch.jobs_file import BatchJob, existing_file, in_folder_of, read_jobs
from trtyard.batch.local import run_here
from trtyard.batch.record import (
    LOG_FILE,
    Result,
    read_result,
    result_in_words,
    unfinished,
    worst,
)
from trtyard.batch.slurm import SlurmOptions, open_submission, run_on_slurm
from trtyard.core.errors import EnvironmentLacksError, TrtyardError, UsageError
from trtyard.core.report import HTML_FILE
from trtyard.core.typed_paths import typed_path
from trtyard.publish.kubernetes import RETRIES
from trtyard.report import words
from trtyard.report.pages import INDEX_FILE, write_index
from trtyard.run.convert import with_downloads
from trtyard.run.environment import make_environment
from trtyard.system.folders import held_folder
from trtyard.system.reading import nearest
from trtyard.system.terminal import say, show
from trtyard.system.uv import OUT

HERE, SLURM = "here", "slurm"
_PLACES = (HERE, SLURM)


def run_batch(
    file: str,
    *,
    on: str,
    out: str,
    workers: str,
    again: bool,
    dry_run: bool,
    slurm: SlurmOptions,
) -> int:
    """Run the conversions of ``file`` that are not finished; return the worst exit code.

    Arguments are command-line values. With ``again``, finished conversions run too. With
    ``dry_run``, print what would run, and run nothing.
    """
    if on not in _PLACES:
        hint = "for Kubernetes: ./run ci --target kubernetes --jobs FILE"
        raise UsageError(
            f"--on must be one of {', '.join(_PLACES)}, not {on!r}{nearest(on, _PLACES)}", hint
        )
    count = _number("--workers", workers or "1", least=1)
    if workers and on == SLURM:
        raise UsageError(
            "--workers is for this machine; Slurm runs as many as it has room for",
            "leave it out",
        )
    path = existing_file(file)
    folder = typed_path(out) if out else OUT / "batch" / path.stem
    with in_folder_of(path):
        jobs = read_jobs(path, folder)
        reasons = {job.index: unfinished(job.job) for job in jobs}
        if again:
            reasons = {index: reason or "--again" for index, reason in reasons.items()}
        if dry_run:
            show(_table(jobs, {job.index: _plan(reasons[job.index]) for job in jobs}))
            return 0
        chosen = {job: reason for job in jobs if (reason := reasons[job.index]) is not None}
        return _run(jobs, chosen, folder, on, count, slurm)


def slurm_options(gpus: str, constraint: str, retries: str, words: Sequence[str]) -> SlurmOptions:
    """Return the options for Slurm from command-line values; an empty one is the default."""
    return SlurmOptions(
        gpus=_number("--gpus", gpus or "1", least=0),
        constraint=constraint,
        retries=_number("--retries", retries or str(RETRIES), least=0),
        words=words,
    )


def _number(option: str, text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise UsageError(f"{option} must be a whole number from {least} up, not {text!r}")
    return int(text)


def _run(
    jobs: Sequence[BatchJob],
    chosen: Mapping[BatchJob, str],
    folder: Path,
    on: str,
    workers: int,
    slurm: SlurmOptions,
) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--out {folder} is a file, not a folder") from None
    try:
        with held_folder(folder, waiting=None):
            return _run_held(jobs, chosen, folder, on, workers, slurm)
    except BlockingIOError:
        raise EnvironmentLacksError(
            f"another ./run batch uses {folder}", "wait for it, or use another --out"
        ) from None


def _run_held(
    jobs: Sequence[BatchJob],
    chosen: Mapping[BatchJob, str],
    folder: Path,
    on: str,
    workers: int,
    slurm: SlurmOptions,
) -> int:
    done = len(jobs) - len(chosen)
    say(f"{words.counted(len(jobs), 'conversion')}, {done} finished already; results: {folder}")
    earlier = {job: reason for job, reason in chosen.items() if read_result(job.job.out)}

    def prepare(starting: Sequence[BatchJob]) -> None:
        for job in starting:
            if job in earlier:
                say(f"runs again: {job.name} ({earlier.pop(job)})")
        _make_environments(starting)
        if on == SLURM:  # the nodes may have no network
            download_weights(starting)

    if on == HERE:
        if open_submission(folder):
            raise EnvironmentLacksError(
                f"a Slurm array may still write into {folder}",
                "wait for it: add --on slurm; or use another --out",
            )
        prepare([*chosen])
        run_here([*chosen], workers)
    else:
        run_on_slurm(jobs, [*chosen], folder, slurm, prepare)
    results = {job.index: read_result(job.job.out) for job in jobs}
    show(_table(jobs, {index: _in_words(result) for index, result in results.items()}))
    for job in jobs:
        result, log = results[job.index], job.job.out / LOG_FILE
        if (result is None or result.exit_code != 0) and log.is_file():
            say(f"log of {job.index}: {log}")
    # Without the reports that an earlier run left where this one failed before it wrote any.
    reports = [
        job.job.out
        for job in jobs
        if (result := results[job.index]) is not None
        and result.report is not None
        and (job.job.out / HTML_FILE).is_file()
    ]
    if reports:
        write_index(reports, folder / INDEX_FILE)
        show(str(folder / INDEX_FILE))
    return worst([-1 if one is None else one.exit_code for one in results.values()])


def _make_environments(jobs: Sequence[BatchJob]) -> None:
    """Make the environments that the conversions need, once, before any of them starts."""
    rows = {job.job.row.name: job.job for job in jobs if job.executor == "host"}
    for job in rows.values():
        make_environment(job.row, job.locked)


def download_weights(jobs: Sequence[BatchJob]) -> None:
    """Download the weights that the conversions need.

    Prints the errors. The conversions try again.
    """
    wanted = {
        (each.job.row.name, each.job.request.model, each.job.request.weights): each for each in jobs
    }
    for each in wanted.values():
        try:
            with_downloads(each.job, each.executor)
        except TrtyardError as error:
            say(f"{each.name}: {error.message}")


def _plan(reason: str | None) -> str:
    return "finished" if reason is None else f"would run: {reason}"


def _in_words(result: Result | None) -> str:
    if result is None:
        return "not run"
    taken = f", {words.seconds(result.seconds)}" if result.seconds else ""
    return f"{result_in_words(result)}{taken}"


def _table(jobs: Sequence[BatchJob], last: Mapping[int, str]) -> str:
    head = ("", "row", "model", "precision", "folder", "result")
    lines = [
        head,
        *((str(job.index), *job.words, job.name, last[job.index]) for job in jobs),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
