"""One-line summaries of comparisons, for the terminal and JUnit."""

from trtyard.core.report import DetectionParity, OutputParity
from trtyard.report import words


def parity_facts(row: OutputParity) -> str:
    """Return one output's largest difference, tolerance and problems, in one line."""
    if row.max_abs is None:
        return parity_remarks(row)
    figures = (
        f"max abs {words.number(row.max_abs)}, tolerance {words.tolerance(row.atol, row.rtol)}"
    )
    return "; ".join(filter(None, (figures, parity_remarks(row))))


def parity_remarks(row: OutputParity) -> str:
    """Return an output's problems and cautions in one line, or ""."""
    remarks = [row.problem, row.caution]
    if row.mismatches and row.max_abs is not None:
        remarks.append(f"{row.mismatches:,} of {row.elements:,} beyond the tolerance")
        remarks.append(worst_element(row))
    return words.one_line("; ".join(remark for remark in remarks if remark))


def worst_element(row: OutputParity) -> str | None:
    """Return the position and both values of the worst element, or None."""
    if row.worst is None:
        return None
    place = ", ".join(map(str, row.worst.position))
    values = words.number(row.worst.reference, 7), words.number(row.worst.candidate, 7)
    return f"worst at [{place}]: {values[0]} against {values[1]}"


def detection_facts(each: DetectionParity) -> str:
    """Return the comparison of two runtimes' detections in one line."""
    if each.problem is not None:
        return words.one_line(each.problem)
    text = f"{each.matched} of {each.reference} matched"
    if each.candidate != each.reference:
        text += f" ({each.candidate} in {words.runtime_name(each.pair[1])})"
    if each.matched:
        text += (
            f", {each.labels_equal} labels equal, "
            f"boxes within {words.number(each.worst_box_diff)} px, "
            f"scores within {words.number(each.worst_score_diff)}"
        )
    return text
