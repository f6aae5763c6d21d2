"""Compare the detections of two runtimes, in any order of rows.

Two detections with nearly equal scores may swap rows between runtimes, so padded outputs cannot be
compared row by row. The comparison passes if there is a one-to-one matching of all detections in
which every pair has equal labels, and boxes and scores within tolerance. A maximum bipartite
matching (augmenting paths) finds it if it exists. Detections without a match are paired by overlap
to show how they differ. The rest is listed as unmatched.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from trtyard.core.report import DetectionParity, DetectionTolerance, Match, Unmatched
from trtyard.pipeline.parity.padded import Detections, pairwise_iou
from trtyard.pipeline.parity.tolerance import DETECTION

# Boxes with a smaller overlap are different objects (the lowest threshold of Pascal VOC and COCO).
SAME_OBJECT_IOU = 0.5
# Distance of an IoU from its threshold within which rounding may decide the suppression.
NEAR_IOU = 1e-3


class Thresholds(NamedTuple):
    """The detector's thresholds, which explain detections that only one runtime has."""

    score: float
    iou: float


def match_detections(
    pair: Tuple[str, str],
    reference: Detections,
    candidate: Detections,
    tolerance: DetectionTolerance = DETECTION,
    thresholds: Optional[Thresholds] = None,
    image: int = 0,
) -> DetectionParity:
    """Match two runtimes' detections and compare them.

    Passes if every detection of both is matched, with equal labels, every coordinate within
    ``tolerance.box`` and every score within ``tolerance.score``. NaN is within no tolerance.
    """
    table = _Differences(reference, candidate, tolerance)
    pairs = maximum_matching(np.where(table.within, table.cost, np.inf))
    pairs.extend(_by_overlap(table, pairs))
    matches = tuple(table.match(row, column) for row, column in sorted(pairs))
    labels_equal = sum(match.labels[0] == match.labels[1] for match in matches)
    unmatched = _unmatched(pair, reference, candidate, matches, tolerance, thresholds)
    return DetectionParity(
        pair,
        reference=len(reference.scores),
        candidate=len(candidate.scores),
        matched=len(matches),
        labels_equal=labels_equal,
        worst_iou=min((match.iou for match in matches), default=None),
        worst_score_diff=max((match.score_diff for match in matches), default=None),
        worst_box_diff=max((match.box_diff for match in matches), default=None),
        tolerance=tolerance,
        passed=not unmatched and all(match.within for match in matches),
        matches=matches,
        unmatched=unmatched,
        image=image,
        numbering=reference.numbering,
    )


def not_matched(pair: Tuple[str, str], problem: str) -> DetectionParity:
    """Return a failed comparison of outputs that are not valid detections, with the reason."""
    return DetectionParity(pair, 0, 0, 0, 0, None, None, None, DETECTION, False, problem=problem)


class _Differences:
    """The differences between every detection of the reference and of the candidate."""

    def __init__(
        self, reference: Detections, candidate: Detections, tolerance: DetectionTolerance
    ) -> None:
        self.reference, self.candidate = reference, candidate
        self.iou = pairwise_iou(reference.boxes, candidate.boxes)
        self.box = np.zeros(self.iou.shape)
        for corner in range(4):  # one coordinate at a time: [n, m, 4] at once is large
            left = reference.boxes[:, corner].astype(np.float64)[:, None]
            right = candidate.boxes[:, corner].astype(np.float64)[None]
            self.box = np.maximum(self.box, _distance(left, right))
        self.score = _distance(
            reference.scores.astype(np.float64)[:, None],
            candidate.scores.astype(np.float64)[None],
        )
        self.same_label = reference.labels[:, None] == candidate.labels[None]
        self.within = (
            self.same_label & (self.box <= tolerance.box) & (self.score <= tolerance.score)
        )
        # In units of the tolerances; used only to order acceptable pairs.
        tiny = np.finfo(np.float64).tiny
        self.cost = self.box / max(tolerance.box, tiny) + self.score / max(tolerance.score, tiny)

    def match(self, row: int, column: int) -> Match:
        return Match(
            row,
            column,
            (int(self.reference.labels[row]), int(self.candidate.labels[column])),
            (float(self.reference.scores[row]), float(self.candidate.scores[column])),
            float(self.iou[row, column]),
            float(self.box[row, column]),
            float(self.score[row, column]),
            bool(self.within[row, column]),
        )


def _distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        distance = np.abs(left - right)
    return np.where(np.isnan(distance), np.inf, distance)


def maximum_matching(cost: np.ndarray) -> List[Tuple[int, int]]:
    """Return the largest set of pairs that uses no row or column twice.

    Args:
        cost: float [n, m]; infinite if a pair is not allowed. Cheaper pairs are tried first, but
            only the number of pairs is optimal (Berge: no augmenting path is left).
    """
    columns = cost.shape[1]
    owner = np.full(columns, -1)  # the row that has this column
    taken: Dict[int, int] = {}  # row -> column
    for start in range(cost.shape[0]):
        seen = np.zeros(columns, dtype=bool)
        reached_from = np.full(columns, -1)
        queue = [start]
        for row in queue:  # grows during the loop: breadth first
            fresh = np.flatnonzero(np.isfinite(cost[row]) & ~seen)
            seen[fresh] = True
            reached_from[fresh] = row
            free = fresh[owner[fresh] < 0]
            if free.size:
                column: Optional[int] = int(free[np.argmin(cost[row, free])])
                while column is not None:  # reassign each column, back along the path
                    giver = int(reached_from[column])
                    owner[column] = giver
                    taken[giver], column = column, taken.get(giver)
                break
            queue.extend(int(owner[column]) for column in fresh)
    return sorted(taken.items())


def _by_overlap(table: _Differences, pairs: List[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Pair the rest by overlap, equal labels first. Greedy: it only explains a difference."""
    iou = table.iou.copy()
    for row, column in pairs:
        iou[row, :] = 0.0
        iou[:, column] = 0.0
    rows, columns = np.nonzero(iou >= SAME_OBJECT_IOU)
    order = np.lexsort((-iou[rows, columns], ~table.same_label[rows, columns]))
    found: Dict[int, int] = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist()):
        if row not in found and column not in found.values():
            found[row] = column
    return list(found.items())


def _unmatched(
    pair: Tuple[str, str],
    reference: Detections,
    candidate: Detections,
    matches: Tuple[Match, ...],
    tolerance: DetectionTolerance,
    thresholds: Optional[Thresholds],
) -> Tuple[Unmatched, ...]:
    alone = []
    sides = (
        (pair[0], reference, candidate, {match.reference for match in matches}),
        (pair[1], candidate, reference, {match.candidate for match in matches}),
    )
    for runtime, mine, others, used in sides:
        for row in sorted(set(range(len(mine.scores))) - used):
            left, top, right, bottom = mine.boxes[row].tolist()
            why = _explanation(row, mine, others, tolerance, thresholds)
            alone.append(
                Unmatched(
                    runtime,
                    row,
                    int(mine.labels[row]),
                    float(mine.scores[row]),
                    (left, top, right, bottom),
                    why,
                )
            )
    return tuple(alone)


def _explanation(
    row: int,
    mine: Detections,
    others: Detections,
    tolerance: DetectionTolerance,
    thresholds: Optional[Thresholds],
) -> str:
    score = float(mine.scores[row])
    if thresholds is not None and abs(score - thresholds.score) <= tolerance.score:
        return (
            f"its score is within {tolerance.score:g} of the score threshold {thresholds.score:g}: "
            "rounding decides whether it is kept"
        )
    full = len(others.scores) == others.capacity
    if full and score - float(others.scores.min()) <= tolerance.score:
        return (
            f"the other has all its {others.capacity} rows full, with scores down to "
            f"{float(others.scores.min()):.4g}: rounding decides which is the last"
        )
    if thresholds is not None:
        iou = pairwise_iou(mine.boxes[row : row + 1], mine.boxes)[0]
        iou[row] = 0.0
        close = (np.abs(iou - thresholds.iou) <= NEAR_IOU) & (mine.labels == mine.labels[row])
        if close.any():
            return (
                f"its IoU with another detection is {float(iou[close][0]):.4f}, near the "
                f"suppression threshold {thresholds.iou:g}: rounding decides whether it is kept"
            )
    return f"the other has no free box that overlaps it by {SAME_OBJECT_IOU:g}"
