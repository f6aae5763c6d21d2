"""What a run of CI has shown of each row, by the reports that it left.

``FOLDER/ROW/MODEL/report.json`` stands for each model converted, ``FOLDER/ROW/image.json``
(``docker image inspect``) for the image. What was not run is never shown as passed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from trtyard.build.build import content_labels
from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.report import SCHEMA
from trtyard.lock.file import Lock, LockedRow
from trtyard.matrix.reader import Matrix
from trtyard.matrix.row import Row

Status = Literal["passed", "failed", "not-run"]
Column = Literal["built", "exported", "parity", "engine-built", "engine-run"]
COLUMNS: tuple[Column, ...] = get_args(Column)
MODELS = ("alexnet", "faster_rcnn")  # a column of a row speaks of both


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Of one row, what one column says."""

    status: Status
    reason: str  # "" where it passed


Verified = Mapping[str, Mapping[Column, Cell]]


def collect(folder: Path, matrix: Matrix, lock: Lock) -> Verified:
    """Return what the reports below ``folder`` say of every row."""
    return {
        row.name: {
            "built": _built(folder / row.name, row, lock.row(row.name)),
            **_converted(folder / row.name, row),
        }
        for row in matrix.rows.values()
    }


def _built(folder: Path, row: Row, locked: LockedRow) -> Cell:
    try:
        (image,) = json.loads((folder / "image.json").read_text(encoding="utf-8"))
        labels = image["Config"]["Labels"] or {}
    except OSError:
        reason = "its lock has unresolved parts" if locked.unresolved else "no image was built"
        return Cell(status="not-run", reason=reason)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / 'image.json'} is no docker image inspect: {error!r}") from None
    if any(labels.get(name) != value for name, value in content_labels(row, locked).items()):
        return Cell(
            status="failed", reason="the image is of another row, lock or state of the tree"
        )
    return Cell(status="passed", reason="")


def _converted(folder: Path, row: Row) -> dict[Column, Cell]:
    reports = [_report(folder / model / "report.json", row, model) for model in MODELS]

    def worst(judge: Callable[[Mapping[str, Any]], Cell]) -> Cell:
        # A model without a report keeps the column from passing, and hides no other's failure.
        missing = Cell(status="not-run", reason="no report of both models")
        return _worst([missing if report is None else judge(report) for report in reports])

    return {
        "exported": worst(lambda report: _stage(report, "export")),
        "parity": worst(_parity),
        "engine-built": worst(lambda report: _stage(report, "engine")),
        "engine-run": worst(lambda report: _stage(report, "tensorrt")),
    }


def _report(file: Path, row: Row, model: str) -> Mapping[str, Any] | None:
    try:
        report: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{file} is no report: {error}") from None
    if (report.get("schema"), report.get("row"), report.get("model")) != (SCHEMA, row.name, model):
        raise UsageError(f"{file} is no report of row {row.name} and model {model}")
    _check_versions(file, row, report["versions"])
    return report


def _check_versions(file: Path, row: Row, found: Mapping[str, str]) -> None:
    """``IntegrityError`` where the report is of other releases than the row asks for by now."""
    python = ".".join(found["python"].split(".")[:2])
    asked = {**row.packages_for(python), "tensorrt": row.tensorrt}
    for name in sorted(set(asked) & set(found)):
        told, wanted = found[name].partition("+")[0], asked[name].partition("+")[0]
        # TensorRT's bindings of 8.6.1.6 call themselves 8.6.1.
        if told != wanted and not (name == "tensorrt" and wanted.startswith(f"{told}.")):
            raise IntegrityError(
                f"{file} is of {name} {found[name]}, row {row.name} has {asked[name]}",
                "convert anew, or take the old report away",
            )


def _stage(report: Mapping[str, Any], name: str) -> Cell:
    stage = next(one for one in report["stages"] if one["name"] == name)
    lines = str(stage.get("reason") or "").strip().splitlines()
    return Cell(status=stage["status"], reason=lines[0] if lines else "")


def _parity(report: Mapping[str, Any]) -> Cell:
    """ONNX Runtime against torch; with nothing compared there is no parity."""
    stage = _stage(report, "onnxruntime")
    compared = [*report["parity"], *report["detections"]]
    if stage.status != "passed" or not report["parity"]:
        return stage if stage.status != "passed" else Cell(status="not-run", reason="none compared")
    failed = [one for one in compared if not one["passed"]]
    return Cell(status="failed", reason="the runtimes differ") if failed else stage


def _worst(cells: Sequence[Cell]) -> Cell:
    order: tuple[Status, ...] = ("failed", "not-run", "passed")
    return min(cells, key=lambda cell: order.index(cell.status))
