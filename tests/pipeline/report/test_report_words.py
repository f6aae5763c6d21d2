import math

import pytest

from trtyard.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (0.05, "0.05"), (0.0039, "0.0039"), (0.001, "0.001"),
        (1e-4, "1e-4"), (3.94e-5, "3.9e-5"), (0.00025, "2.5e-4"), (-3e-9, "-3e-9"),
        (1234567.0, "1.2e6"), (math.nan, "NaN"), (None, words.NOTHING),
        (math.inf, words.INFINITY), (-math.inf, words.MINUS + words.INFINITY),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "< 0.01 s"), (0.006, "0.01 s"),
     (0.24, "0.24 s"), (0.996, "1.0 s"), (9.94, "9.9 s"), (9.96, "10 s"),
     (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (None, words.NOTHING)],
)  # fmt: skip
def test_seconds(value, text):
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (137_900_000, "137.9 MB"),
     (999_990_000, "1.0 GB"), (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_sizes(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(9, "9"), (9999, "9999"), (12345, "12.3k"), (3_400_000, "3.4M")]
)
def test_compact_counts(count, text):
    assert words.compact(count) == text


def test_tolerances():
    assert words.tolerance(0.0, 0.0) == "exact"
    assert words.tolerance(1e-6, 0.0) == "1e-6"
    assert words.tolerance(0.05, 1e-4) == f"0.05 + 1e-4 {words.TIMES} |ref|"
    assert words.tolerance(0.0, 0.1) == f"0.1 {words.TIMES} |ref|"


def test_cosine_rounds_to_one_only_if_exact():
    assert words.cosine(1.0) == "1"
    assert words.cosine(1 - 1e-9) == "> 0.999999"
    assert words.cosine(0.5) == "0.5"
    assert words.cosine(0.0) == "0"
    assert words.cosine(-1.0) == "-1"


def test_lists():
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b"]) == "a and b"
    assert words.listed(["a", "b", "c"]) == "a, b and c"


def test_control_characters_become_spaces():
    assert words.printable("a\x00b\x1b[31m\nc\u2028d") == "a b [31m\nc d"
    assert words.one_line(" a\n\tb  c ") == "a b c"
