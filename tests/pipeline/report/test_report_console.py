import pytest
from report_examples import (
    NO_DEVICE,
    a_classifier_report,
    a_failed_report,
    a_hostile_report,
    a_report,
    stages_failed_at,
    verdict,
)

from trtyard.report.console import console_table, notes_in_words

REPORTS = {
    "passed": a_report(),
    "failed": a_failed_report(),
    "classifier": a_classifier_report(),
    "failed stage": a_report(stages=stages_failed_at("export", "word " * 200, "x" * 200)),
    "hostile": a_hostile_report(),
    "long names": a_classifier_report()._replace(
        model="m" * 300,
        parity=tuple(row._replace(output="o" * 90) for row in a_classifier_report().parity),
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_line_fits_the_console(name):
    lines = console_table(REPORTS[name]).split("\n")
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("name", REPORTS)
def test_terminal_codes_are_not_printed(name):
    assert all(each == "\n" or each.isprintable() for each in console_table(REPORTS[name]))


def line_of(report, start):
    return next(line for line in console_table(report).split("\n") if line.startswith(start))


def test_stages_say_their_result_time_and_reason():
    report = a_report()
    assert line_of(report, "export").split() == [
        "export", "passed", "9.0", "s", "dynamo", "exporter,", "opset", "18",
    ]  # fmt: skip
    tensorrt = line_of(report, "tensorrt")
    assert "not run" in tensorrt
    assert "passed" not in tensorrt
    assert NO_DEVICE in tensorrt
    assert "598 layers, 137.9 MB, 3 plugins" in line_of(report, "engine")


@pytest.mark.parametrize("name", ["encoder_last_hidden_state", "a" * 23, "a" * 24])
def test_long_names_of_outputs_are_shown_whole(name):
    (row, *_) = a_classifier_report().parity
    lines = console_table(a_classifier_report()._replace(parity=(row._replace(output=name),)))
    lines = lines.split("\n")
    (number,) = [index for index, line in enumerate(lines) if line.startswith(name)]
    assert "passed" in lines[number] + lines[number + 1]
    assert not any(".." in line for line in lines[number : number + 2])


def test_comparisons_say_their_result_difference_and_tolerance():
    assert line_of(a_report(), "labels").split() == ["labels", "passed", "0", "exact"]
    assert "0.05 + 1e-4 x |ref|" in line_of(a_report(), "boxes")
    assert "3 of 3 matched, 3 labels equal" in console_table(a_report())


def test_failed_comparison_names_its_place():
    table = console_table(a_failed_report())
    assert "FAILED" in line_of(a_failed_report(), "boxes")
    assert "4 of 12 beyond the tolerance; worst at [1, 1]: 10 against 14" in table


@pytest.mark.parametrize("name", REPORTS)
def test_table_ends_with_the_verdict(name):
    words = verdict(REPORTS[name])[1].replace("\N{MULTIPLICATION SIGN}", "x").split()
    assert console_table(REPORTS[name]).split()[-len(words) :] == words


def test_console_is_ascii_for_ascii_names():
    assert all(ord(each) < 128 for each in console_table(a_failed_report()))


def test_notes_are_shown_whole_up_to_three():
    notes = ("one " * 40, "two\x1b[2J", "x" * 200, "four", "five")
    lines = notes_in_words(a_report()._replace(notes=notes)).split("\n")
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert sum(line.count("one") for line in lines) == 40
    assert [line for line in lines if line.startswith("Note: ")][1].startswith("Note: two")
    assert lines[-1] == "2 more notes in report.html"
    assert notes_in_words(a_report()._replace(notes=())) == ""
