"""Latencies on the page, on the terminal, and in report.json."""

import pytest
from report_examples import HOSTILE, a_failed_report, a_report

from trtyard.core.report import Latency, LayerProfile, LayerTime, Timing, check_report
from trtyard.core.report_json import report_value
from trtyard.report.console import console_table
from trtyard.report.junit import junit_text
from trtyard.report.page import page
from trtyard.report.reading import report_of
from trtyard.report.words import milliseconds

RAN = Timing("torch", "fp32", 1, "cpu", False, 200, 12.34, 15.6, 20.0, 81.0, 0.5)
IDLE = Timing("tensorrt", "int8", 8, "cuda", reason="no CUDA device on this machine")
PROFILE = LayerProfile(
    "fp16", 8, 30, 4.0, 0.25, (LayerTime("conv", 3.0, False), LayerTime("nms", 1.0, True))
)


def latency(*timings, **changes):
    given = Latency("a processor", 2, 1.5, None, None, 10, timings or (RAN, IDLE))
    return given._replace(**changes)


def test_page_has_every_time_and_why_a_runtime_was_not_run():
    whole = page(a_report(latency=latency(profiles=(PROFILE,))))
    for text in (
        "<h2>Latency</h2>", "12.3 ms", "15.6 ms", "20.0 ms", "81", "TensorRT int8: not run: no",
        "<rect", "25.0 %", "nms", "a processor", "Medians; the line ends at the 99th percentile",
    ):  # fmt: skip
        assert text in whole


def test_report_without_latency_has_no_section():
    assert "Latency" not in page(a_report())
    assert "median" not in console_table(a_report())


def test_terminal_has_a_table_of_80_columns():
    graph = RAN._replace(is_graph=True, device="cuda", runtime="torch-compiled", p99_ms=None)
    said = console_table(a_report(latency=latency(RAN, graph, IDLE, profiles=(PROFILE,))))
    assert max(map(len, said.splitlines())) <= 80
    for words in (
        ["batch", "1", "median", "p99", "items/s", "device", "runs"],
        ["PyTorch", "12.3", "ms", "15.6", "ms", "81", "CPU", "200"],
        ["PyTorch", "compiled,", "CUDA", "graph", "12.3", "ms", "-", "81", "GPU", "200"],
        ["TensorRT", "int8", "not", "run", "no", "CUDA", "device", "on", "this", "machine"],
    ):
        assert words in [line.split() for line in said.splitlines()]
    assert "Plugins take 25.0 % of the fp16 engine's time at batch 8." in said
    assert "p99 needs 100 runs" in said


@pytest.mark.parametrize("show", [page, console_table])
def test_times_of_a_failed_conversion_say_so(show):
    words = "The conversion did not pass: the runtimes may not compute the same."
    assert words in show(a_failed_report(latency=latency()))
    assert words not in show(a_report(latency=latency()))


def test_nothing_timed_is_said():
    assert "No runtime was timed." in console_table(a_report(latency=latency(IDLE)))


def test_profile_that_is_not_known_says_why():
    profile = LayerProfile("fp32", 1, reason="this TensorRT has no profiler in Python")
    assert "this TensorRT has no profiler" in page(a_report(latency=latency(profiles=(profile,))))


def test_report_is_read_as_it_was_written():
    report = a_report(latency=latency(profiles=(PROFILE,)))
    check_report(report)
    assert report_of(report_value(report)) == report


def test_junit_does_not_depend_on_latency():
    assert junit_text(a_report(latency=latency())) == junit_text(a_report())


@pytest.mark.parametrize(
    "timing",
    [
        RAN._replace(reason="why"),
        IDLE._replace(reason=None),
        IDLE._replace(median_ms=1.0),
        RAN._replace(median_ms=None),
    ],
)
def test_a_timing_has_times_or_a_reason(timing):
    with pytest.raises(ValueError, match="or neither"):
        check_report(a_report(latency=latency(timing)))


def test_text_of_users_is_escaped():
    hostile = latency(
        RAN._replace(note=HOSTILE),
        IDLE._replace(reason=HOSTILE),
        processor=HOSTILE,
        gpu=HOSTILE,
        clocks=HOSTILE,
        profiles=(PROFILE._replace(slowest=(LayerTime(HOSTILE, 1.0, False),)),),
    )
    assert "<script>" not in page(a_report(latency=hostile))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.03613, "0.0361 ms"),
        (1.0, "1.00 ms"),
        (9.999, "10.00 ms"),
        (12.34, "12.3 ms"),
        (625.2, "625 ms"),
        (1204.4, "1,204 ms"),
        (0.0, "0 ms"),
        (None, "\N{EN DASH}"),
    ],
)
def test_milliseconds_have_three_digits(value, words):
    assert milliseconds(value) == words
