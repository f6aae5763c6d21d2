"""What ./run convert shows at its end."""

import shlex
import sys
from pathlib import Path

from trtyard.core.errors import ConversionError
from trtyard.core.report import FAILED, HTML_FILE, Compared, Report, precision_stages
from trtyard.core.request import ONNXRUNTIME_TENSORRT, BenchRequest, ConversionRequest
from trtyard.known_failures.advice import advised
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.report.console import console_table, notes_in_words
from trtyard.report.pages import write_pages
from trtyard.report.reading import read_report
from trtyard.system.terminal import show


def show_result(folder: Path) -> None:
    """Make the pages of the report in ``folder`` and print its table, notes and failures."""
    report = advised(read_report(folder), matrix_toolchains())
    write_pages(report, folder)
    show(f"\n{console_table(report)}")
    command = bisect_command(report)
    if command is not None:
        show(f"\nTo find the first wrong node: {command}")
    if report.notes:
        show(f"\n{notes_in_words(report)}")
    show(f"\nReport: {_shown(folder / HTML_FILE)}")
    sys.stdout.flush()
    for stage in (*report.stages, *precision_stages(report)):
        if stage.status == FAILED:  # the table has room for the first words only
            sys.stderr.write(f"\ntrtyard: {ConversionError(stage.reason or '', stage.hint)}\n")


def _shown(path: Path) -> Path:
    """Return the path relative to the current folder, if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def bisect_command(report: Report) -> str | None:
    """Return the command that finds the first wrong node; None if there is none to find."""
    rows: tuple[Compared, ...] = (*report.parity, *report.detections)
    wrong = {row.pair for row in rows if not row.passed}
    if report.command is None:
        return None
    if ("torch", "onnxruntime") in wrong:
        # torch 1 cannot record its operators.
        cannot = report.versions.get("torch", "").startswith("1.")
        return None if cannot or report.bisection is not None else _bisecting(report.command)
    if ("onnxruntime", "tensorrt") in wrong and report.engine_search is None:
        return f"{_bisecting(report.command)} --between {ONNXRUNTIME_TENSORRT}"
    return None


def _bisecting(command: str) -> str:
    """Return the bisect command for the model and options of a conversion."""
    program, _task, *words = shlex.split(command)
    known = ConversionRequest.options()
    for name, one in BenchRequest.options().items():
        is_dropped = name in ("bisect", "between", "until") or name not in known
        if is_dropped and f"--{one.name}" in words:
            at = words.index(f"--{one.name}")
            del words[at : at + (1 if one.is_flag else 2)]
    return shlex.join([program, "bisect", *words])
