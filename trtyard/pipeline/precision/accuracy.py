"""A reduced precision's outputs against PyTorch's in fp32."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from trtyard.core.errors import ParityError
from trtyard.core.report import Agreement, ValueAccuracy
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.parity.comparison import detections_in
from trtyard.pipeline.parity.detections import match_detections
from trtyard.pipeline.parity.padded import Detections
from trtyard.pipeline.precision.average_precision import mean_average_precision
from trtyard.pipeline.precision.budgets import JUDGED_SAMPLES, Budget

Outputs = Mapping[str, np.ndarray]
_Arrays = Tuple[np.ndarray, np.ndarray]
_Found = List[Tuple[Detections, Detections]]  # the reference's and the candidate's, by image

CLASSIFIER, SEGMENTER = "classifier", "segmenter"
INPUT, HELD_OUT = "input", "held-out"
_BEST = 5


class Pair(NamedTuple):
    """The outputs for the same inputs, one entry for each sample; the run's own input is first."""

    runtime: str
    reference: Sequence[Outputs]
    candidate: Sequence[Outputs]


class Accuracy(NamedTuple):
    """All that was compared."""

    values: Tuple[ValueAccuracy, ...]
    agreements: Tuple[Agreement, ...]


def accuracy_of(kind: str, pair: Pair, budget: Budget, is_trained: bool) -> Accuracy:
    """Compare every sample and judge by ``budget``.

    Values of all samples are judged together. Decisions (classes, pixels) are judged with trained
    weights alone: random ones decide by differences that mean nothing.
    """
    if kind_of(kind).is_detector:
        return _detections(kind, pair, budget)
    names = list(pair.reference[0])
    values = tuple(_values(name, pair, budget) for name in names if _is_float(name, pair))
    whole = [
        _agreement(pair.runtime, f"equal {name}", _equal(name, pair), INPUT, None)
        for name in names
        if not _is_float(name, pair)
    ]
    decided = _decisions(kind, pair, budget, is_trained) if values else []
    return Accuracy(values, (*whole, *decided))


def _is_float(name: str, pair: Pair) -> bool:
    return np.asarray(pair.reference[0][name]).dtype.kind == "f"


def _equal(name: str, pair: Pair) -> List[bool]:
    return [
        bool(same)
        for left, right in zip(pair.reference, pair.candidate)
        for same in np.ravel(np.asarray(left[name]) == np.asarray(right[name]))
    ]


def _values(name: str, pair: Pair, budget: Budget) -> ValueAccuracy:
    shapes = [
        (np.shape(left[name]), np.shape(right[name]))
        for left, right in zip(pair.reference, pair.candidate)
    ]
    wrong = next((each for each in shapes if each[0] != each[1]), None)
    if wrong is not None:
        problem = f"shape {list(wrong[1])} instead of {list(wrong[0])}"
        return _no_values(name, pair, budget, problem)
    return compared_values(
        pair.runtime,
        name,
        np.concatenate([np.ravel(each[name]) for each in pair.reference]),
        np.concatenate([np.ravel(each[name]) for each in pair.candidate]),
        budget,
        len(pair.reference),
    )


def compared_values(
    runtime: str,
    name: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    budget: Budget,
    samples: int = 1,
) -> ValueAccuracy:
    """Return relative error and cosine of two arrays of the same shape.

    Elements that are the same NaN or infinity in both are left out.
    """
    left = np.ravel(reference).astype(np.float64)
    right = np.ravel(candidate).astype(np.float64)
    finite = np.isfinite(left)
    alike = (left == right) | (np.isnan(left) & np.isnan(right))
    if not (np.isfinite(right) == finite).all() or not alike[~finite].all():
        number = int(np.count_nonzero(np.isfinite(right) != finite))
        problem = f"{number} values are NaN or infinite in one of the two"
        return _no_values(name, Pair(runtime, [{}] * samples, []), budget, problem)
    left, right = left[finite], right[finite]
    difference = float(np.linalg.norm(left - right))
    norms = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    error = difference / norms[0] if norms[0] else (0.0 if not difference else float("inf"))
    cosine = float(left @ right) / (norms[0] * norms[1]) if norms[0] and norms[1] else None
    if cosine is None and not difference:
        cosine = 1.0
    return ValueAccuracy(
        runtime,
        name,
        error,
        cosine,
        float(np.abs(left - right).max()) if left.size else 0.0,
        budget.relative_error,
        budget.cosine,
        error <= budget.relative_error and cosine is not None and cosine >= budget.cosine,
        samples,
    )


def _no_values(name: str, pair: Pair, budget: Budget, problem: str) -> ValueAccuracy:
    return ValueAccuracy(
        pair.runtime,
        name,
        None,
        None,
        None,
        budget.relative_error,
        budget.cosine,
        False,
        len(pair.reference),
        problem,
    )


def _decisions(kind: str, pair: Pair, budget: Budget, is_trained: bool) -> List[Agreement]:
    least = budget.decisions if is_trained else None
    found = []
    for data, part in ((INPUT, slice(0, 1)), (HELD_OUT, slice(1, None))):
        reference, candidate = pair.reference[part], pair.candidate[part]
        for measure, same in _same(kind, reference, candidate).items():
            bound = least if len(same) >= JUDGED_SAMPLES else None
            found.append(_agreement(pair.runtime, measure, same, data, bound))
    return [each for each in found if each.compared]


def _same(
    kind: str, reference: Sequence[Outputs], candidate: Sequence[Outputs]
) -> Dict[str, List[bool]]:
    """Return for each measure whether each sample, or pixel, is decided alike."""
    if kind not in (CLASSIFIER, SEGMENTER) or not reference:
        return {}
    name = next(iter(reference[0]))
    if kind == SEGMENTER:
        pixels = [
            np.ravel(left[name].argmax(1) == right[name].argmax(1))
            for left, right in zip(reference, candidate)
        ]
        return {"pixels": list(map(bool, np.concatenate(pixels)))}
    rows = [
        (int(mine.argmax()), np.argsort(-theirs, kind="stable")[:_BEST].tolist())
        for left, right in zip(reference, candidate)
        for mine, theirs in zip(left[name], right[name])
    ]
    return {
        "top-1": [best == five[0] for best, five in rows],
        "top-5": [best in five for best, five in rows],
    }


def _agreement(
    runtime: str, measure: str, same: Sequence[bool], data: str, least: Optional[float]
) -> Agreement:
    value = float(np.mean(same)) if len(same) else 0.0
    return Agreement(
        runtime, measure, value, len(same), data, least, least is None or value >= least
    )


def _detections(kind: str, pair: Pair, budget: Budget) -> Accuracy:
    values: List[ValueAccuracy] = []
    agreements: List[Agreement] = []
    for data, part in ((INPUT, slice(0, 1)), (HELD_OUT, slice(1, None))):
        found = _found(kind, pair.reference[part], pair.candidate[part])
        if isinstance(found, str):
            empty = Pair(pair.runtime, pair.reference[part], ())
            values.append(_no_values("detections", empty, budget, found))
            continue
        if not found:
            continue
        same, boxes, scores = _matched(pair.runtime, found, budget)
        agreements.append(
            _agreement(pair.runtime, "detections", same, data, budget.detections)
            if same
            else Agreement(pair.runtime, "detections", 1.0, 0, data, None, True)
        )
        agreements.append(
            Agreement(
                pair.runtime, "mAP", mean_average_precision(found), len(same), data, None, True
            )
        )
        if data == INPUT and len(boxes[0]):
            for name, (mine, theirs) in (("boxes", boxes), ("scores", scores)):
                values.append(compared_values(pair.runtime, name, mine, theirs, budget))
    return Accuracy(tuple(values), tuple(agreements))


def _found(
    kind: str, reference: Sequence[Outputs], candidate: Sequence[Outputs]
) -> Union[_Found, str]:
    """Return the detections of each image, or why the candidate's are none."""
    pairs: _Found = []
    for left, right in zip(reference, candidate):
        try:
            pairs += list(zip(detections_in(kind, left), detections_in(kind, right)))
        except ParityError as error:
            return error.message
    return pairs


def _matched(runtime: str, pairs: _Found, budget: Budget) -> Tuple[List[bool], _Arrays, _Arrays]:
    """Return which of the reference's detections are found again, with boxes and scores of both."""
    same: List[bool] = []
    boxes: Tuple[List[np.ndarray], List[np.ndarray]] = ([], [])
    scores: Tuple[List[np.ndarray], List[np.ndarray]] = ([], [])
    for reference, candidate in pairs:
        parity = match_detections(("torch", runtime), reference, candidate, budget.tolerance)
        alike = [each for each in parity.matches if each.labels[0] == each.labels[1]]
        same += [True] * len(alike) + [False] * (parity.reference - len(alike))
        mine, theirs = [each.reference for each in alike], [each.candidate for each in alike]
        boxes[0].append(reference.boxes[mine])
        boxes[1].append(candidate.boxes[theirs])
        scores[0].append(reference.scores[mine])
        scores[1].append(candidate.scores[theirs])
    joined = [np.concatenate(each) for each in (*boxes, *scores)]
    return same, (joined[0], joined[1]), (joined[2], joined[3])
