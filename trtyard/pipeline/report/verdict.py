"""What a report comes to: one sentence, an exit code, and what was not run."""

from typing import Dict, Iterable, List, NamedTuple, Tuple, Union

from trtyard.core.errors import ConversionError, EnvironmentLacksError, ParityError
from trtyard.pipeline.parity.detections import DetectionParity
from trtyard.pipeline.parity.outputs import OutputParity
from trtyard.pipeline.report import words
from trtyard.pipeline.report.schema import COMPARED_RUNTIMES, REFERENCE_RUNTIME, Report
from trtyard.pipeline.stages import FAILED, NOT_RUN, PASSED, Stage

Compared = Union[OutputParity, DetectionParity]


class Verdict(NamedTuple):
    """The sentence for the top of a report."""

    exit_code: int
    headline: str
    not_run: Tuple[str, ...]  # "TensorRT (no CUDA device)", one for each reason
    cautions: Tuple[str, ...]  # why passing says less than it seems to

    @property
    def text(self) -> str:
        """Headline, cautions and what was not run, in one line."""
        parts = [self.headline, *self.cautions]
        if self.not_run:
            parts.append("Not run: " + "; ".join(self.not_run) + ".")
        return words.one_line(" ".join(parts))


def verdict(report: Report) -> Tuple[int, str]:
    """Return the exit code that the report asks for, and one line that says why.

    0: all that could run passed. 1: runtimes disagree, or one ran and was not compared.
    3: nothing ran at all. 4: a stage failed.
    """
    judged = judge(report)
    return judged.exit_code, judged.text


def judge(report: Report) -> Verdict:
    """Return the verdict with its parts apart."""
    by_status = {
        status: [stage for stage in report.stages if stage.status == status]
        for status in (PASSED, FAILED, NOT_RUN)
    }
    not_run = _by_reason(by_status[NOT_RUN])
    exit_code, headline = _headline(report, by_status[PASSED], by_status[FAILED])
    return Verdict(exit_code, headline, not_run, _cautions(report) if exit_code == 0 else ())


def _headline(report: Report, passed: List[Stage], failed: List[Stage]) -> Tuple[int, str]:
    disagreements = _disagreements(report)
    if failed:
        sentences = [
            f"{_capital(words.subject(stage.name))} failed: {_sentence(stage.reason or '')}"
            for stage in failed
        ]
        compared = [*disagreements, *_agreements(report)]
        return ConversionError.exit_code, " ".join([*sentences, *compared])
    if not passed:
        return EnvironmentLacksError.exit_code, "Nothing was run."
    if disagreements:
        return ParityError.exit_code, " ".join([*disagreements, *_agreements(report)])
    uncompared = _uncompared(report, passed)
    if uncompared:
        names = words.listed(words.runtime_name(name) for name in uncompared)
        return ParityError.exit_code, f"{names} ran, but nothing it gave was compared."
    return 0, " ".join(_agreements(report)) or "What could run passed; nothing was compared."


def _by_reason(stages: List[Stage]) -> Tuple[str, ...]:
    subjects: Dict[str, List[str]] = {}
    for stage in stages:
        reason = words.one_line(stage.reason or "")
        subjects.setdefault(reason, []).append(words.subject(stage.name))
    return tuple(f"{words.listed(names)} ({reason})" for reason, names in subjects.items())


def _agreements(report: Report) -> List[str]:
    compared: Tuple[Compared, ...] = (*report.parity, *report.detections)
    bad = {each.pair for each in compared if not each.passed}
    good = [pair for pair in compared_pairs(report) if pair not in bad]
    if bad or len(good) < 2:
        return [f"{_named(pair)} agree within the tolerances." for pair in good]
    # Several pairs and none bad: say it once for all.
    return [f"{_named(dict.fromkeys(sum(good, ())))} agree within the tolerances."]


def _disagreements(report: Report) -> List[str]:
    sentences = []
    for pair in compared_pairs(report):
        judged = [each for each in report.detections if each.pair == pair and not each.passed]
        outputs = [row.output for row in report.parity if row.pair == pair and not row.passed]
        if judged or outputs:
            what = ["detections"] if judged else []
            sentences.append(f"{_named(pair)} disagree on {words.listed(what + outputs)}.")
    return sentences


def compared_pairs(report: Report) -> List[Tuple[str, str]]:
    """Return every pair of runtimes that was compared, each once, in order."""
    compared = [row.pair for row in report.parity] + [each.pair for each in report.detections]
    return list(dict.fromkeys(compared))


def _uncompared(report: Report, passed: List[Stage]) -> List[str]:
    compared = {name for pair in compared_pairs(report) for name in pair}
    ran = [stage.name for stage in passed]
    return [
        name
        for name in COMPARED_RUNTIMES
        if name in ran and REFERENCE_RUNTIME in ran and name not in compared
    ]


def _cautions(report: Report) -> Tuple[str, ...]:
    cautions = [
        f"{_capital(words.subject(stage.name))} {_sentence(stage.note)}"
        for stage in report.stages
        if stage.note
    ]
    for each in report.detections:
        if not each.reference and not each.candidate:
            cautions.append(f"{_named(each.pair)} both detect nothing, so agreeing says little.")
    matched_nothing = {each.pair for each in report.detections if not each.matched}
    for row in report.parity:
        if row.caution and row.pair not in matched_nothing:
            cautions.append(f"{row.output} ({_named(row.pair)}): {row.caution}.")
    return tuple(cautions)


def _named(runtimes: Iterable[str]) -> str:
    return words.listed(words.runtime_name(name) for name in runtimes)


def _sentence(text: str) -> str:
    """Return the first line as a sentence; the stage shows the rest."""
    line = words.one_line(text.strip().split("\n", 1)[0])
    return line if line.endswith((".", "!", "?")) else line.rstrip(":") + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
