"""report.json: the facts for other programs. JSON has no NaN or infinity: those become null."""

import math
from typing import Any, Dict, Optional

from trtyard.pipeline.parity.detections import DetectionParity
from trtyard.pipeline.parity.outputs import ErrorHistogram, OutputParity
from trtyard.pipeline.report.schema import SCHEMA, Report
from trtyard.pipeline.report.verdict import judge
from trtyard.pipeline.stages import Stage


def report_value(report: Report) -> Dict[str, Any]:
    """Return the report as plain values that ``json`` can write."""
    judged = judge(report)
    value = {
        "schema": SCHEMA,
        "row": report.row,
        "model": report.model,
        "precision": report.precision,
        "executor": report.executor,
        "verdict": {"exit_code": judged.exit_code, "text": judged.text},
        "stages": [_stage(stage) for stage in report.stages],
        "parity": [_parity(row) for row in report.parity],
        "detections": [_detections(each) for each in report.detections],
        "engine": None if report.engine is None else report.engine._asdict(),
        "artifacts": {name: dict(facts) for name, facts in report.artifacts.items()},
        "inputs": {
            "image": None if report.inputs.image is None else report.inputs.image._asdict(),
            "weights": None if report.inputs.weights is None else report.inputs.weights._asdict(),
            "tensors": [tensor._asdict() for tensor in report.inputs.tensors],
        },
        "versions": dict(report.versions),
        "proposals": [each._asdict() for each in report.proposals],
        "exporter": report.exporter,
        "opset": report.opset,
        "command": report.command,
        "created": report.created,
        "peak_memory_bytes": report.peak_memory_bytes,
        "notes": list(report.notes),
    }
    finite: Dict[str, Any] = _finite(value)
    return finite


def _stage(stage: Stage) -> Dict[str, Any]:
    return {key: value for key, value in stage._asdict().items() if value is not None}


def _parity(row: OutputParity) -> Dict[str, Any]:
    return {
        **row._asdict(),
        "pair": list(row.pair),
        "worst": None if row.worst is None else row.worst._asdict(),
        "histogram": _histogram(row.histogram),
    }


def _histogram(histogram: Optional[ErrorHistogram]) -> Optional[Dict[str, Any]]:
    if histogram is None:
        return None
    bins = [
        {
            "from": float(f"1e{histogram.lowest + offset}"),
            "to": float(f"1e{histogram.lowest + offset + 1}"),
            "count": count,
        }
        for offset, count in enumerate(histogram.decades)
    ]
    return {"exact": histogram.exact, "bins": bins, "non_finite": histogram.non_finite}


def _detections(each: DetectionParity) -> Dict[str, Any]:
    return {
        **each._asdict(),
        "pair": list(each.pair),
        "tolerance": each.tolerance._asdict(),
        "matches": [match._asdict() for match in each.matches],
        "unmatched": [alone._asdict() for alone in each.unmatched],
    }


def _finite(value: Any) -> Any:
    """Return ``value`` with every number that JSON lacks made null, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
