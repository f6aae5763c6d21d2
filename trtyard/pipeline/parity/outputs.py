"""Compare the outputs of two runtimes, element by element.

All figures are computed in float64 (integers exactly), for every output type. The rule is numpy's
and torch's: an element agrees if ``|reference - candidate| <= atol + rtol * |reference|``.

NaN or the same infinity at the same place in both outputs agrees, because both compute the same
function. The report shows how many there are. In only one output it is a mismatch.
"""

from typing import Optional, Tuple

import numpy as np

from trtyard.core.report import (
    HIGHEST_DECADE,
    LOWEST_DECADE,
    ErrorHistogram,
    OutputParity,
    WorstElement,
)


def compare(
    pair: Tuple[str, str],
    output_name: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    atol: float,
    rtol: float,
    tolerance_source: str = "",
) -> OutputParity:
    """Compare one output of two runtimes, element by element.

    Args:
        pair: names of the runtimes, the reference first.
        output_name: the output's name.
        reference: any shape; floating (any width), integer or bool.
        candidate: the same shape and dtype; anything else fails with a reason.
        atol: absolute tolerance, in the output's own unit.
        rtol: relative to the reference's magnitude. Integers and bools are compared exactly, with
            both tolerances 0.
        tolerance_source: the source of the tolerance, for the report.

    Raises:
        ValueError: a tolerance that is negative or not finite.
    """
    if not (0 <= atol < np.inf and 0 <= rtol < np.inf):
        raise ValueError(f"{output_name}: tolerances must be finite and >= 0: {atol}, {rtol}")
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    floating = reference.dtype.kind == "f"
    if not floating:
        atol, rtol = 0.0, 0.0
    problem = _incomparable(reference, candidate)
    if problem is not None:
        elements = int(max(reference.size, candidate.size))
        return OutputParity(
            pair, output_name, elements, None, None, None, atol, rtol, elements, False,
            problem=problem, tolerance_source=tolerance_source,
        )  # fmt: skip
    error = (_float_error if floating else _integer_error)(reference.ravel(), candidate.ravel())
    left, right = reference.ravel().astype(np.float64), candidate.ravel().astype(np.float64)
    magnitude = np.where(np.isfinite(left), np.abs(left), 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        excess = np.where(np.isinf(error), np.inf, error - (atol + rtol * magnitude))
    mismatches = int(np.count_nonzero(excess > 0))
    one_sided = int(np.count_nonzero(np.isinf(error)))
    return OutputParity(
        pair,
        output_name,
        elements=int(error.size),
        max_abs=float(error.max()) if error.size else 0.0,
        max_rel=_max_relative(error, magnitude, atol),
        cosine=_cosine(left, right),
        atol=float(atol),
        rtol=float(rtol),
        mismatches=mismatches,
        passed=mismatches == 0,
        worst=_worst(excess, reference.shape, left, right),
        non_finite_alike=int(np.count_nonzero(~np.isfinite(left) & (error == 0))),
        histogram=_histogram(error),
        problem=f"{one_sided} NaN or infinite in one runtime only" if one_sided else None,
        caution=_caution(left),
        tolerance_source=tolerance_source,
    )


def not_compared(pair: Tuple[str, str], output_name: str, problem: str) -> OutputParity:
    """Return a failed row for an output that could not be compared, with the reason."""
    return OutputParity(pair, output_name, 0, None, None, None, 0.0, 0.0, 0, False, problem=problem)


def _incomparable(reference: np.ndarray, candidate: np.ndarray) -> Optional[str]:
    if reference.shape != candidate.shape:
        return f"shape {list(reference.shape)} against {list(candidate.shape)}"
    if reference.dtype != candidate.dtype:
        return f"type {reference.dtype} against {candidate.dtype}"
    if reference.dtype.kind not in "fiub":
        return f"type {reference.dtype} cannot be compared"
    return None


def _float_error(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    error = np.full(left.shape, np.inf)
    error[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    finite = np.isfinite(left) & np.isfinite(right)
    with np.errstate(over="ignore"):
        error[finite] = np.abs(left[finite] - right[finite])
    return error


def _integer_error(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    # Unsigned 64-bit integers represent every difference of two integers exactly (negative ones
    # wrap around and back). float64 does not.
    left, right = reference.astype(np.uint64), candidate.astype(np.uint64)
    return np.where(reference > candidate, left - right, right - left).astype(np.float64)


def _max_relative(error: np.ndarray, magnitude: np.ndarray, atol: float) -> float:
    # Below atol only the absolute tolerance matters, and a quotient would be noise.
    large = (magnitude > atol) & np.isfinite(error)
    with np.errstate(over="ignore"):
        relative = error[large] / magnitude[large]
    return float(relative.max()) if relative.size else 0.0


def _cosine(left: np.ndarray, right: np.ndarray) -> float:
    finite = np.isfinite(left) & np.isfinite(right)
    left, right = left[finite], right[finite]
    if np.array_equal(left, right):
        return 1.0
    if not left.any() or not right.any():
        return 0.0
    left, right = left / np.abs(left).max(), right / np.abs(right).max()  # squares stay finite
    cosine = float(left @ right / np.sqrt((left @ left) * (right @ right)))
    return min(1.0, max(-1.0, cosine))


def _caution(reference: np.ndarray) -> Optional[str]:
    if not reference.size:
        return "there are no elements"
    finite = reference[np.isfinite(reference)]
    if not finite.size:
        return "no value of the reference is finite, so the comparison means little"
    if not reference.any():
        return "every value of the reference is 0, so the comparison means little"
    without = int(np.count_nonzero(np.isnan(reference)))
    if without:
        return f"{without:,} of {reference.size:,} values are NaN in the reference"
    return None


def _worst(
    excess: np.ndarray, shape: Tuple[int, ...], left: np.ndarray, right: np.ndarray
) -> Optional[WorstElement]:
    if excess.size == 0:
        return None
    flat = int(np.argmax(excess))
    position = tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
    return WorstElement(position, float(left[flat]), float(right[flat]))


def _histogram(error: np.ndarray) -> ErrorHistogram:
    finite = error[np.isfinite(error)]
    differing = finite[finite > 0]
    non_finite = int(error.size - finite.size)
    exact = int(finite.size - differing.size)
    if not differing.size:
        return ErrorHistogram(exact, 0, (), non_finite)
    # Edges as written ("1e-3"), not as log10 rounds them.
    exponents = range(LOWEST_DECADE + 1, HIGHEST_DECADE + 1)
    edges = np.array([float(f"1e{exponent}") for exponent in exponents])
    decade = np.searchsorted(edges, differing, side="right") + LOWEST_DECADE
    lowest = int(decade.min())
    counts = np.bincount(decade - lowest)
    return ErrorHistogram(exact, lowest, tuple(int(count) for count in counts), non_finite)
