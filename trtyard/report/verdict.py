"""The verdict of a report: a headline, an exit code, and the stages that were not run."""

from collections.abc import Iterable
from typing import NamedTuple

from trtyard.core.report import (
    FAILED,
    NOT_RUN,
    PASSED,
    TORCH_CUDA,
    Compared,
    Report,
    Stage,
    compared_pairs,
    exit_code,
    missed_budgets,
    precision_stages,
    uncompared_runtimes,
)
from trtyard.report import words
from trtyard.report.size_facts import dimension_names, size_numbers, sized_pairs, sizes_compared


class Verdict(NamedTuple):
    """The verdict of a report."""

    exit_code: int
    headline: str
    not_run: tuple[str, ...]  # "TensorRT (no CUDA device)", one for each reason
    cautions: tuple[str, ...]  # why passing proves less than it seems

    @property
    def text(self) -> str:
        """Headline, cautions and the stages that were not run, in one line."""
        parts = [self.headline, *self.cautions]
        if self.not_run:
            parts.append("Not run: " + "; ".join(self.not_run) + ".")
        return words.one_line(" ".join(parts))


def judge(report: Report) -> Verdict:
    """Return the verdict of a report."""
    stages = [*report.stages, *precision_stages(report)]
    by_status = {
        status: [stage for stage in stages if stage.status == status]
        for status in (PASSED, FAILED, NOT_RUN)
    }
    reasons = {stage.reason for stage in report.stages}  # the engines' are mostly the same
    not_run = _by_reason(
        [
            stage
            for stage in by_status[NOT_RUN]
            if stage in report.stages or stage.reason not in reasons
        ]
    )
    code = exit_code(report)
    headline = _headline(report, by_status[PASSED], by_status[FAILED])
    return Verdict(code, headline, not_run, () if code else _cautions(report))


def _headline(report: Report, passed: list[Stage], failed: list[Stage]) -> str:
    disagreements = [*_disagreements(report), *_missed(report)]
    if failed:
        sentences = [
            f"{_capital(words.subject(stage.name))} failed: {_sentence(stage.reason or '')}"
            for stage in failed
        ]
        return " ".join([*sentences, *disagreements, *_agreements(report)])
    if not passed:
        return "Nothing was run."
    if disagreements:
        return " ".join([*disagreements, *_agreements(report)])
    uncompared = uncompared_runtimes(report)
    if uncompared:
        names = words.listed(words.runtime_name(name) for name in uncompared)
        return f"{names} ran, but no output was compared."
    agreed = " ".join([*_agreements(report), *_within(report)])
    return agreed or _nothing_compared(report, passed)


def _nothing_compared(report: Report, passed: list[Stage]) -> str:
    if report.onnx_file is not None and any(stage.name == "onnxruntime" for stage in passed):
        return (
            "The file is valid ONNX and runs in ONNX Runtime; its outputs hold no NaN. Nothing was "
            "compared, because no other runtime ran."
        )
    return "All stages that ran passed; nothing was compared."


def _by_reason(stages: list[Stage]) -> tuple[str, ...]:
    subjects: dict[str, list[str]] = {}
    for stage in stages:
        reason = words.one_line(stage.reason or "")
        subjects.setdefault(reason, []).append(words.subject(stage.name))
    return tuple(f"{words.listed(names)} ({reason})" for reason, names in subjects.items())


def _agreements(report: Report) -> list[str]:
    compared: tuple[Compared, ...] = (*report.parity, *report.detections)
    bad = {each.pair for each in (*compared, *report.sizes) if not each.passed}
    good = [pair for pair in compared_pairs(report) if pair not in bad]
    together = [pair for pair in good if TORCH_CUDA not in pair]  # with one reference
    if bad or len(together) < 2:
        return [f"{_named(pair)} agree within the tolerances." for pair in good]
    # Several pairs and none bad: one sentence for all.
    apart = [pair for pair in good if TORCH_CUDA in pair]
    named = [dict.fromkeys(sum(together, ())), *apart]
    return [f"{_named(each)} agree within the tolerances." for each in named]


def _disagreements(report: Report) -> list[str]:
    sentences = []
    for pair in compared_pairs(report):
        judged = [each for each in report.detections if each.pair == pair and not each.passed]
        outputs = [row.output for row in report.parity if row.pair == pair and not row.passed]
        if judged or outputs:
            what = ["detections"] if judged else []
            sentences.append(f"{_named(pair)} disagree on {words.listed(what + outputs)}.")
    for pair in sized_pairs(report):
        own = sizes_compared(report, pair)
        bad = [size_numbers(each) for each in own if not each.passed]
        if bad:
            names = dimension_names(report)
            count = f"{len(bad)} of {words.counted(len(own), 'size')}"
            sentences.append(f"{_named(pair)} disagree at {count} ({names} {words.listed(bad)}).")
    return sentences


def _within(report: Report) -> list[str]:
    """Return a sentence about the precisions that were compared; none of them missed its budget."""
    names = [each.name for each in report.precisions[1:] if each.values or each.agreements]
    if not names:
        return []
    budgets = "its budget" if len(names) == 1 else "their budgets"
    verb = "stays" if len(names) == 1 else "stay"
    return [f"{_capital(words.listed(names))} {verb} within {budgets} of accuracy."]


def _missed(report: Report) -> list[str]:
    names = missed_budgets(report)
    if not names:
        return []
    verb = "misses its budget" if len(names) == 1 else "miss their budgets"
    return [f"{_capital(words.listed(names))} {verb} of accuracy."]


def _cautions(report: Report) -> tuple[str, ...]:
    cautions = [
        f"{_capital(words.subject(stage.name))} {_sentence(stage.note)}"
        for stage in report.stages
        if stage.note
    ]
    for each in report.detections:
        if not each.reference and not each.candidate:
            cautions.append(f"{_named(each.pair)} both detect nothing, so this proves little.")
    matched_nothing = {each.pair for each in report.detections if not each.matched}
    for row in report.parity:
        if row.caution and row.pair not in matched_nothing:
            cautions.append(f"{row.output} ({_named(row.pair)}): {row.caution}.")
    return tuple(cautions)


def _named(runtimes: Iterable[str]) -> str:
    return words.listed(words.runtime_name(name) for name in runtimes)


def _sentence(text: str) -> str:
    """Return the first line as a sentence; the section of the stage has the full text."""
    line = words.one_line(text.strip().split("\n", 1)[0])
    return line if line.endswith((".", "!", "?")) else line.rstrip(":") + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
