"""The summary table on the terminal: 80 columns, ASCII punctuation, no colour."""

import textwrap
from collections.abc import Sequence

from trtyard.core.report import (
    FAILED,
    HTML_FILE,
    PASSED,
    Bisection,
    EngineSearch,
    Latency,
    Report,
    Stage,
    compared_pairs,
)
from trtyard.report import words
from trtyard.report.bisect_section import (
    divergence_in_words,
    engine_in_words,
    precision_in_words,
    summary,
)
from trtyard.report.facts import detection_facts, parity_remarks
from trtyard.report.latency_facts import by_batch, cautions, p99, runtime_title, throughput
from trtyard.report.precision_section import (
    agreement_in_words,
    precision_notes,
    precision_status,
    worst_cosine,
    worst_error,
)
from trtyard.report.size_facts import (
    dimension_names,
    largest_difference,
    size_numbers,
    sized_pairs,
    sizes_compared,
)
from trtyard.report.verdict import judge

WIDTH = 80
_STAGE_COLUMNS = (13, 9, 11)  # stage, result, time; the rest is for the detail
_PARITY_COLUMNS = (24, 9, 11)  # output, result, largest difference; the rest is for the tolerance
_LATENCY_COLUMNS = (31, 11, 11, 10, 8)
_PRECISION_COLUMNS = (11, 9, 12, 10, 10, 10)
_PLAIN = str.maketrans(
    {words.TIMES: "x", words.NOTHING: "-", words.MINUS: "-", words.INFINITY: "inf"}
)  # not every terminal can show them
_MOST_NOTES = 3
_DETAIL_LINES = 3  # of a reason; the report has the full text


def console_table(report: Report) -> str:
    """Return stages, comparisons and the verdict, in lines of at most 80 columns."""
    lines = textwrap.wrap(
        words.one_line(f"{report.model} on {report.row}, {report.precision}"), WIDTH
    )
    lines.append("")
    lines += _row(("stage", "result", "time", ""))
    for stage in report.stages:
        lines += _row(
            (
                stage.name,
                words.status_word(stage.status),
                "-" if stage.seconds is None else words.seconds(stage.seconds),
                _stage_detail(report, stage),
            )
        )
    for pair in compared_pairs(report):
        lines += ["", *_compared(report, pair)]
    for pair in sized_pairs(report):
        lines += ["", *_sizes(report, pair)]
    if report.bisection is not None:
        lines += ["", *_bisection(report.bisection)]
    if report.engine_search is not None:
        lines += ["", *_engine_search(report.engine_search)]
    if report.precisions:
        lines += ["", *_precisions(report)]
    if report.latency is not None:
        lines += ["", *_latency(report, report.latency)]
    lines += ["", *textwrap.wrap(judge(report).text, WIDTH, break_on_hyphens=False)]
    return "\n".join(line.rstrip() for line in lines).translate(_PLAIN)


def notes_in_words(report: Report) -> str:
    """Return the report's first notes and the number of others, in lines of at most 80 columns."""
    lines: list[str] = []
    for note in report.notes[:_MOST_NOTES]:
        lines += textwrap.wrap(
            f"Note: {words.one_line(note)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
    more = len(report.notes) - _MOST_NOTES
    if more > 0:
        lines.append(f"{words.counted(more, 'more note')} in {HTML_FILE}")
    return "\n".join(line.rstrip() for line in lines).translate(_PLAIN)


def _stage_detail(report: Report, stage: Stage) -> str:
    if stage.status != PASSED:
        return "; ".join(filter(None, (stage.reason, stage.hint)))
    if stage.name == "engine" and report.engine is not None:
        facts = f"{words.counted(report.engine.layers, 'layer')}, {words.size(report.engine.bytes)}"
        plugins = len(report.engine.plugin_layers)
        facts += f", {words.counted(plugins, 'plugin')}" if plugins else ""
        profiles = report.engine.profiles
        return facts + (f", {words.counted(profiles, 'profile')}" if profiles else "")
    if stage.name == "simplify" and report.simplified is not None:
        return f"{report.simplified.before:,} nodes before, {report.simplified.after:,} after"
    if stage.name == "export" and report.exporter is not None:
        facts = f"{report.exporter} exporter, opset {report.opset}"
        return "; ".join(filter(None, (facts, stage.note)))
    return stage.note or ""


def _precisions(report: Report) -> list[str]:
    columns = ("precision", "result", "rel. error", "cosine", "ONNX", "engine", "CPU time")
    lines = _row(columns, _PRECISION_COLUMNS)
    for each in report.precisions:
        cosine = worst_cosine(each)
        status = precision_status(each)
        cells = (
            each.name,
            "FAILED" if status == FAILED else words.status_word(status),
            words.number(worst_error(each)),
            "-" if cosine is None else f"{cosine:.6f}",
            "-" if each.file_bytes is None else words.size(each.file_bytes),
            "-" if each.engine_bytes is None else words.size(each.engine_bytes),
            words.seconds(each.seconds),
        )
        lines += _row(cells, _PRECISION_COLUMNS)
        if each.agreements:
            held_out = [one for one in each.agreements if one.data == "held-out"]
            lines += _indented("; ".join(map(agreement_in_words, held_out or each.agreements)))
        for note in precision_notes(each):
            lines += _indented(words.one_line(note))
    return lines


def _latency(report: Report, latency: Latency) -> list[str]:
    """Return a row for each runtime at each batch size, and for those that were not run why."""
    lines: list[str] = []
    for batch, timings in by_batch(latency).items():
        name = f"batch {batch}"
        lines += _row((name, "median", "p99", "items/s", "device", "runs"), _LATENCY_COLUMNS)
        for each in timings:
            title = runtime_title(each)
            if each.reason is not None:
                lines += _row((title, "not run", each.reason), _LATENCY_COLUMNS[:2])
                continue
            figures = (words.milliseconds(each.median_ms), p99(each), throughput(each))
            device = "GPU" if each.device == "cuda" else "CPU"
            lines += _row((title, *figures, device, f"{each.runs}"), _LATENCY_COLUMNS)
        lines.append("")
    for profile in latency.profiles:
        if profile.plugin_share is not None:
            share = f"{100 * profile.plugin_share:.1f} % of the {profile.precision} engine's time"
            lines += textwrap.wrap(f"Plugins take {share} at batch {profile.batch}.", WIDTH)
    for caution in cautions(report, latency):
        lines += textwrap.wrap(caution, WIDTH)
    return lines if lines[-1] else lines[:-1]


def _compared(report: Report, pair: tuple[str, str]) -> list[str]:
    lines = _row((f"{pair[0]}/{pair[1]}", "result", "max diff", "tolerance"), _PARITY_COLUMNS)
    for row in report.parity:
        if row.pair == pair:
            limit = "-" if row.max_abs is None else words.tolerance(row.atol, row.rtol)
            cells = (row.output, _result(row.passed), words.number(row.max_abs), limit)
            lines += _row(cells, _PARITY_COLUMNS)
            if not row.passed or row.caution:
                lines += _indented(parity_remarks(row))
    for each in report.detections:
        if each.pair == pair:
            lines += _row(("detections", _result(each.passed), "", ""), _PARITY_COLUMNS)
            lines += _indented(detection_facts(each))
    return lines


def _sizes(report: Report, pair: tuple[str, str]) -> list[str]:
    """Return one line for the sizes that passed, and one for each that failed."""
    head = (f"{pair[0]}/{pair[1]}", "result", "max diff", dimension_names(report))
    lines = _row(head, _PARITY_COLUMNS)
    own = sizes_compared(report, pair)
    good = [each for each in own if each.passed]
    if good:
        worst = words.number(largest_difference(good))
        sizes = ", ".join(map(size_numbers, good))
        cells = (words.counted(len(good), "size"), _result(True), worst, sizes)
        lines += _row(cells, _PARITY_COLUMNS)
    for each in own:
        if not each.passed:
            worst = words.number(largest_difference([each]))
            cells = (each.role, _result(False), worst, size_numbers(each))
            lines += _row(cells, _PARITY_COLUMNS)
    problems = [each.problem for each in own if each.problem]
    if problems:
        lines += _indented(words.one_line(problems[0]))[:_DETAIL_LINES]
    return lines


def _bisection(found: Bisection) -> list[str]:
    lines = _divergences(found)
    for search in found.precisions:
        first, *rest = precision_in_words(search)
        lines += ["", *textwrap.wrap(words.one_line(first), WIDTH, break_on_hyphens=False)]
        for line in rest:
            lines += _indented(words.one_line(line))
    return lines


def _engine_search(search: EngineSearch) -> list[str]:
    lines = _divergences(search.found, search)
    for line in engine_in_words(search):
        lines += _indented(words.one_line(line))
    return lines


def _divergences(found: Bisection, engine: EngineSearch | None = None) -> list[str]:
    lines = textwrap.wrap(summary(found), WIDTH, break_on_hyphens=False)
    for number, each in enumerate(found.divergences, 1):
        first, *rest = divergence_in_words(each, engine)
        lines += textwrap.wrap(words.one_line(f"{number}. {first}"), WIDTH, break_on_hyphens=False)
        for line in rest:
            lines += _indented(words.one_line(line))
    return lines


def _result(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _indented(text: str) -> list[str]:
    indent = "  "
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _row(cells: Sequence[str], widths: Sequence[int] = _STAGE_COLUMNS) -> list[str]:
    name = words.one_line(cells[0])
    if len(name) >= widths[0]:  # too long for its column: on separate lines
        named = textwrap.wrap(name, WIDTH, break_on_hyphens=False)
        return [*named, *_row(("", *cells[1:]), widths)]
    head = "".join(
        textwrap.shorten(words.one_line(cell), width - 1, placeholder="..").ljust(width)
        for cell, width in zip(cells, widths, strict=False)
    )
    room = WIDTH - len(head)
    detail = textwrap.wrap(words.one_line(cells[-1]), room, break_on_hyphens=False) or [""]
    if len(detail) > _DETAIL_LINES:
        detail = [*detail[: _DETAIL_LINES - 1], detail[_DETAIL_LINES - 1][: room - 4] + " ..."]
    return [head + detail[0]] + [" " * len(head) + line for line in detail[1:]]
