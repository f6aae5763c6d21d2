"""report.json: the facts of a conversion as JSON.

JSON has no NaN or infinity: they are the strings "NaN", "Infinity" and "-Infinity".
"""

import math
from typing import Any, Dict

from trtyard.core.report import SCHEMA, ErrorHistogram, Report, Stage, exit_code

_LEFT_OUT = ("bisection", "engine_search")  # keys that are there only if they were asked for


def report_value(report: Report) -> Dict[str, Any]:
    """Return the report as dictionaries, lists and values for ``json``."""
    value = {
        "schema": SCHEMA,
        "row": report.row,
        "model": report.model,
        "verdict": {"exit_code": exit_code(report)},
    }  # type: Dict[str, Any]
    for name, each in report._asdict().items():
        if name not in _LEFT_OUT or each is not None:
            value[name] = _plain(each)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, ErrorHistogram):
        return _histogram(value)
    if isinstance(value, Stage):
        return {name: one for name, one in value._asdict().items() if one is not None}
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _histogram(histogram: ErrorHistogram) -> Dict[str, Any]:
    bins = [
        {
            "from": float(f"1e{histogram.lowest + offset}"),
            "to": float(f"1e{histogram.lowest + offset + 1}"),
            "count": count,
        }
        for offset, count in enumerate(histogram.decades)
    ]
    return {"exact": histogram.exact, "bins": bins, "non_finite": histogram.non_finite}
