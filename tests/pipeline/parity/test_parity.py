"""Element-wise comparison against plain Python arithmetic on exact fractions."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trtyard.core.report import HIGHEST_DECADE, LOWEST_DECADE
from trtyard.pipeline.parity.outputs import compare, not_compared

PAIR = ("torch", "onnxruntime")


def compared(reference, candidate, atol=0.0, rtol=0.0):
    return compare(PAIR, "out", np.asarray(reference), np.asarray(candidate), atol, rtol)


def finite_floats(dtype):
    width = np.dtype(dtype).itemsize * 8
    limit = float(np.finfo(dtype).max) / 4
    return st.floats(-limit, limit, allow_nan=False, width=width)


@st.composite
def two_arrays(draw, dtype):
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, max_side=4))
    elements = finite_floats(dtype) | st.sampled_from([0.0, 1.0, -1.0, 0.5])
    return tuple(draw(arrays.arrays(dtype, shape, elements=elements)) for _ in range(2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), atol=st.sampled_from([0.0, 1e-3, 0.75]), rtol=st.sampled_from([0.0, 0.1]))
def test_figures_equal_exact_arithmetic(dtype, data, atol, rtol):
    reference, candidate = data.draw(two_arrays(dtype))
    row = compared(reference, candidate, atol, rtol)
    pairs = [(Fraction(float(r)), Fraction(float(c))) for r, c in
             zip(reference.ravel().tolist(), candidate.ravel().tolist())]  # fmt: skip
    errors = [abs(r - c) for r, c in pairs]
    assert row.elements == len(pairs)
    assert row.max_abs == pytest.approx(float(max(errors)), rel=1e-12)
    assert -1 <= row.cosine <= 1
    relative = [e / abs(r) for (r, _), e in zip(pairs, errors) if float(abs(r)) > atol]
    assert row.max_rel == pytest.approx(_as_float(max(relative, default=0)), rel=1e-12)
    slack = [e - (Fraction(atol) + Fraction(rtol) * abs(r)) for (r, _), e in zip(pairs, errors)]
    clear = [s for s, e in zip(slack, errors) if abs(s) > Fraction(1, 10**12) * (1 + e)]
    if len(clear) == len(slack):  # none lies on the tolerance to the last bit
        assert row.mismatches == sum(s > 0 for s in slack)
        assert row.passed == all(s <= 0 for s in slack)


def _as_float(value):
    return float(value) if value <= Fraction(np.finfo(np.float64).max) else math.inf


def test_worst_is_the_element_furthest_beyond_its_own_tolerance():
    reference = np.array([[1000.0, 1.0], [2.0, 0.0]])
    candidate = np.array([[1009.0, 1.0], [2.5, 0.0]])
    row = compared(reference, candidate, 0.0, 0.01)  # 9 of 10 allowed; 0.5 of 0.02
    assert row.worst.position == (1, 0)
    assert (row.worst.reference, row.worst.candidate) == (2.0, 2.5)
    assert (row.max_abs, row.mismatches, row.passed) == (9.0, 1, False)


def test_difference_equal_to_tolerance_passes():
    assert compared([1.0], [1.5], atol=0.5).passed
    assert not compared([1.0], [np.nextafter(1.5, 2)], atol=0.5).passed


def test_relative_difference_ignores_references_below_atol():
    row = compared([1e-9, 2.0], [5e-9, 2.2], atol=1e-6)
    assert row.max_rel == pytest.approx(0.1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equal_nan_and_infinity_agree_and_are_counted(dtype):
    values = np.array([np.nan, np.inf, -np.inf, 1.0], dtype)
    row = compared(values, values.copy())
    assert row.passed
    assert row.non_finite_alike == 3
    assert row.max_abs == 0.0
    assert row.problem is None


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.inf, 1.0),
        (1.0, -np.inf),
        (np.inf, -np.inf),
        (np.nan, np.inf),
    ],
)
def test_one_sided_nan_or_infinity_fails(reference, candidate):
    row = compared([0.0, reference], [0.0, candidate], atol=1e30, rtol=1e3)
    assert not row.passed
    assert row.mismatches == 1
    assert row.max_abs == np.inf
    assert row.histogram.non_finite == 1
    assert "1 NaN or infinite in one runtime only" in row.problem
    assert row.worst.position == (1,)


@pytest.mark.parametrize("rtol", [0.0, 10.0])
def test_difference_that_overflows_float64_fails(rtol):
    row = compared([1e308], [-1e308], 1.0, rtol)
    assert not row.passed
    assert row.max_abs == np.inf


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "shape [2, 3] against [3, 2]"),
        (np.zeros(3), np.zeros((3, 1)), "shape [3] against [3, 1]"),
        (np.zeros(3), np.zeros(0), "shape [3] against [0]"),
        (np.zeros(3, np.float32), np.zeros(3, np.float16), "type float32 against float16"),
        (np.zeros(3, np.int32), np.zeros(3, np.int64), "type int32 against int64"),
        (np.array(["a"]), np.array(["a"]), "cannot be compared"),
        (np.zeros(1, complex), np.zeros(1, complex), "cannot be compared"),
    ],
)
def test_different_shapes_and_types_fail_and_say_so(reference, candidate, words):
    row = compared(reference, candidate, atol=1e9)
    assert not row.passed
    assert words in row.problem
    assert row.max_abs is None


def test_shapes_that_broadcast_are_not_the_same():
    assert not compared(np.ones((1, 3)), np.ones((4, 3))).passed


def test_empty_arrays_agree_with_a_warning():
    row = compared(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert row.passed
    assert (row.elements, row.max_abs, row.cosine) == (0, 0.0, 1.0)
    assert row.caution == "there are no elements"
    assert row.worst is None


def test_all_zero_reference_adds_a_warning():
    zeros = np.zeros(4, np.float32)
    assert "every value of the reference is 0" in compared(zeros, zeros).caution
    assert compared([0.0, 1e-30], [0.0, 1e-30]).caution is None


@pytest.mark.parametrize(
    ("reference", "candidate", "cosine"),
    [
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([1.0, 2.0], [-1.0, -2.0], -1.0),
        ([1e200, 1e200], [1e-200, 1e-200], 1.0),
        ([1.0, 0.0], [1.0, 1.0], math.sqrt(0.5)),
        ([np.nan, 1.0], [7.0, 1.0], 1.0),
    ],
)
def test_cosine_is_defined_everywhere(reference, candidate, cosine):
    assert compared(reference, candidate).cosine == pytest.approx(cosine, abs=1e-15)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, bool])
def test_integers_and_bools_ignore_the_tolerance(dtype):
    reference = np.array([0, 1, 1], dtype)
    assert compared(reference, reference.copy(), 5.0, 5.0).passed
    row = compared(reference, np.array([0, 1, 0], dtype), 5.0, 5.0)
    assert not row.passed
    assert (row.mismatches, row.max_abs, row.atol, row.rtol) == (1, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.uint8])
def test_integer_differences_do_not_wrap(dtype):
    limits = np.iinfo(dtype)
    low, high = np.array([limits.min], dtype), np.array([limits.max], dtype)
    span = float(int(limits.max) - int(limits.min))
    assert compared(low, high).max_abs == span
    assert compared(high, low).max_abs == span


def test_integers_beyond_float64_precision_are_compared():
    row = compared(np.array([2**60], np.int64), np.array([2**60 + 1], np.int64))
    assert not row.passed
    assert row.max_abs == 1.0


def test_scalars_are_compared():
    row = compared(np.float32(1.0), np.float32(1.25), atol=0.5)
    assert row.passed
    assert row.elements == 1
    assert row.worst.position == ()


@settings(max_examples=60, deadline=None)
@given(
    errors=st.lists(
        st.floats(1e-15, 1e9) | st.sampled_from([0.0, 1e-3, 1e-12, 1.0, 1e6, np.inf]), min_size=1
    )
)
def test_histogram_counts_every_element_once_in_its_decade(errors):
    row = compared(np.zeros(len(errors)), np.array(errors))
    histogram = row.histogram
    assert histogram.exact == errors.count(0.0)
    assert histogram.non_finite == errors.count(math.inf)
    expected = {}
    for error in errors:
        if 0 < error < math.inf:
            decade = max(LOWEST_DECADE, min(HIGHEST_DECADE, _decade(error)))
            expected[decade] = expected.get(decade, 0) + 1
    found = {
        histogram.lowest + offset: count for offset, count in enumerate(histogram.decades) if count
    }
    assert found == expected


def test_histogram_end_bins_hold_outliers():
    histogram = compared(np.zeros(3), np.array([1e-15, 1e-13, 1e-12])).histogram
    assert (histogram.lowest, histogram.decades) == (-12, (3,))
    histogram = compared(np.zeros(3), np.array([1e5, 1e6, 1e9])).histogram
    assert (histogram.lowest, histogram.decades) == (5, (1, 2))


def _decade(error):
    """The exponent as Python writes the number: no logarithm to round."""
    return Decimal(repr(float(error))).adjusted()


@pytest.mark.parametrize("atol", [-1.0, math.nan, math.inf])
def test_invalid_tolerance_is_refused(atol):
    with pytest.raises(ValueError, match="tolerances must be finite"):
        compared([1.0], [1.0], atol)
    with pytest.raises(ValueError, match="tolerances must be finite"):
        compared([1.0], [1.0], 0.0, atol)


def test_not_compared_is_a_failure_with_its_reason():
    row = not_compared(PAIR, "boxes", "tensorrt has no such output")
    assert not row.passed
    assert row.max_abs is None
    assert row.problem == "tensorrt has no such output"


def test_agreement_on_only_nan_adds_a_warning():
    nothing = np.array([np.nan, np.inf, -np.inf])
    row = compare(PAIR, "y", nothing, nothing.copy(), 0.1, 0.1)
    assert row.passed
    assert row.caution == "no value of the reference is finite, so the comparison means little"
    some = np.array([1.0, np.nan, np.inf])
    assert compare(PAIR, "y", some, some.copy(), 0.1, 0.1).caution == (
        "1 of 3 values are NaN in the reference"
    )
    masked = np.array([1.0, -np.inf, -np.inf])
    assert compare(PAIR, "y", masked, masked.copy(), 0.1, 0.1).caution is None
