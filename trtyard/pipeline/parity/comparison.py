"""Compare all outputs of two runtimes by the rules of the model's kind."""

from typing import List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from trtyard.core.errors import ParityError
from trtyard.core.report import DetectionParity, OutputParity
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.parity.detections import Thresholds, match_detections, not_matched
from trtyard.pipeline.parity.outputs import compare, not_compared
from trtyard.pipeline.parity.padded import BOXES, COUNT, LABELS, SCORES, Detections
from trtyard.pipeline.parity.scales import unequal_scales
from trtyard.pipeline.parity.tolerances import tolerance_for

Outputs = Mapping[str, np.ndarray]


class Comparison(NamedTuple):
    """The comparison of two runtimes."""

    parity: Tuple[OutputParity, ...]
    detections: Tuple[DetectionParity, ...]  # one for each image; empty for other models

    @property
    def passed(self) -> bool:
        """Whether everything passed. False if nothing was compared."""
        rows = [row.passed for row in self.parity + self.detections]
        return bool(rows) and all(rows)


def pair_of(comparison: Comparison) -> Optional[Tuple[str, str]]:
    """Return the two runtimes, the reference first; None if nothing was compared."""
    rows = comparison.parity + comparison.detections
    return rows[0].pair if rows else None


def compare_outputs(
    kind: str,
    pair: Tuple[str, str],
    reference: Outputs,
    candidate: Outputs,
    thresholds: Optional[Thresholds] = None,
    has_float16: bool = False,
) -> Comparison:
    """Compare every output of the two runtimes ``pair`` for the same input.

    Detections are matched first. Boxes, scores and labels are then compared between matched pairs.
    A detector's count of live proposals is shown but cannot fail: a near-tie inside the network may
    change it without changing a detection.

    Args:
        kind: the model's kind (see ``tolerance_for``).
        pair: names of the two runtimes, the reference first.
        reference: outputs by name.
        candidate: the same names; an output that one side does not have fails.
        thresholds: the detector's own thresholds, to explain differences.
        has_float16: part of the model computes in float16, see ``tolerance_for``.
    """
    if kind_of(kind).is_detector:
        return _compare_detectors(kind, pair, reference, candidate, thresholds)
    return Comparison(_compare_all(kind, pair, reference, candidate, has_float16), ())


def _compare_all(
    kind: str,
    pair: Tuple[str, str],
    reference: Outputs,
    candidate: Outputs,
    has_float16: bool = False,
) -> Tuple[OutputParity, ...]:
    rows = []
    for name in [*reference, *(name for name in candidate if name not in reference)]:
        if name not in candidate or name not in reference:
            lacking = pair[1] if name in reference else pair[0]
            rows.append(not_compared(pair, name, f"{lacking} has no such output"))
            continue
        rows.append(_compare_one(kind, pair, name, reference[name], candidate[name], has_float16))
    return tuple(rows)


def _compare_one(
    kind: str,
    pair: Tuple[str, str],
    name: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    has_float16: bool = False,
) -> OutputParity:
    tolerance = tolerance_for(kind, name, np.asarray(reference).dtype, has_float16)
    atol, rtol = tolerance.bounds(reference)
    row = compare(pair, name, reference, candidate, atol, rtol, tolerance.source)
    if tolerance.of_largest and row.passed and row.caution is None:
        row = row._replace(caution=unequal_scales(np.asarray(reference), row.atol))
    return row


def detections_in(kind: str, outputs: Outputs) -> List[Detections]:
    """Return the detections in each image of a detector's outputs.

    Raises:
        ParityError: the outputs break their contract.
    """
    read = kind_of(kind).detections
    if read is None:
        raise ParityError(f"outputs of the kind {kind} hold no detections")
    return read(outputs)


def _compare_detectors(
    kind: str,
    pair: Tuple[str, str],
    reference: Outputs,
    candidate: Outputs,
    thresholds: Optional[Thresholds],
) -> Comparison:
    try:
        references = _of_every_image(kind, pair[0], reference)
        candidates = _of_every_image(kind, pair[1], candidate)
    except ParityError as error:
        return Comparison((), (not_matched(pair, error.message),))
    if len(references) != len(candidates):
        problem = f"{len(references)} images against {len(candidates)}"
        return Comparison((), (not_matched(pair, problem),))
    detections = tuple(
        match_detections(pair, left, right, thresholds=thresholds, image=image)
        for image, (left, right) in enumerate(zip(references, candidates))
    )
    rows = _compare_matched(kind, pair, references, candidates, detections)
    if kind_of(kind).has_row_each:
        rows += _compare_the_rest(kind, pair, reference, candidate, detections[0])
    return Comparison(rows, detections)


def _of_every_image(kind: str, runtime: str, outputs: Outputs) -> List[Detections]:
    try:
        return detections_in(kind, outputs)
    except ParityError as error:
        raise ParityError(f"{runtime}: {error.message}") from error


def _compare_the_rest(
    kind: str,
    pair: Tuple[str, str],
    reference: Outputs,
    candidate: Outputs,
    parity: DetectionParity,
) -> Tuple[OutputParity, ...]:
    """Compare masks and keypoints between matched detections."""
    mine = [match.reference for match in parity.matches]
    theirs = [match.candidate for match in parity.matches]
    names = [name for name in reference if name not in (BOXES, SCORES, LABELS, COUNT)]
    return _compare_all(
        kind,
        pair,
        {name: reference[name][mine] for name in names},
        {name: candidate[name][theirs] for name in names if name in candidate},
    )


def _compare_matched(
    kind: str,
    pair: Tuple[str, str],
    references: List[Detections],
    candidates: List[Detections],
    detections: Tuple[DetectionParity, ...],
) -> Tuple[OutputParity, ...]:
    none_matched = not any(parity.matched for parity in detections)
    some_found = any(parity.reference or parity.candidate for parity in detections)
    rows = []
    for name in (BOXES, SCORES, LABELS):
        if none_matched and some_found:
            rows.append(not_compared(pair, name, "no detection was matched"))
            continue
        left, right = [], []
        for mine, theirs, parity in zip(references, candidates, detections):
            left.append(getattr(mine, name)[[match.reference for match in parity.matches]])
            right.append(getattr(theirs, name)[[match.candidate for match in parity.matches]])
        rows.append(_compare_one(kind, pair, name, np.concatenate(left), np.concatenate(right)))
    return tuple(rows)
