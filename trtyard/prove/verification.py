"""Collect the verification status of each row from the reports of a CI run.

``FOLDER/ROW/MODEL/report.json`` is the report of a conversion, ``FOLDER/ROW/image.json`` the output
of ``docker image inspect`` for the row's image. A step without a report has the status not-run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from trtyard.build.build import content_labels
from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.report import SCHEMA
from trtyard.lock.file import Lock, LockedRow
from trtyard.matrix.reader import Matrix
from trtyard.matrix.row import Row
from trtyard.system.reading import Matching

Status = Literal["passed", "failed", "not-run"]
Column = Literal["built", "exported", "parity", "engine-built", "engine-run"]
COLUMNS: tuple[Column, ...] = get_args(Column)
MODELS = ("alexnet", "faster_rcnn")  # a column passes only if both models pass


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The verification status of one row in one column."""

    status: Status
    reason: Annotated[str, Matching(r".*", "a text")]  # "" if it passed


Verified = Mapping[str, Mapping[Column, Cell]]


def collect(folder: Path, matrix: Matrix, lock: Lock) -> Verified:
    """Return the status of every row from the reports below ``folder``."""
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
        reason = "the lock has unresolved entries" if locked.unresolved else "no image was built"
        return Cell(status="not-run", reason=reason)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"cannot read {folder / 'image.json'} as docker image inspect output: {error!r}"
        ) from None
    if any(labels.get(name) != value for name, value in content_labels(row, locked).items()):
        return Cell(status="failed", reason="the image belongs to another row, lock or commit")
    return Cell(status="passed", reason="")


def _converted(folder: Path, row: Row) -> dict[Column, Cell]:
    reports = [_report(folder / model / "report.json", row, model) for model in MODELS]

    def worst(judge: Callable[[Mapping[str, Any]], Cell]) -> Cell:
        # With one report missing the column cannot pass; a failure of the other model still shows.
        missing = Cell(status="not-run", reason="a model has no report")
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
        raise UsageError(f"{file} is not a report: {error}") from None
    if (report.get("schema"), report.get("row"), report.get("model")) != (SCHEMA, row.name, model):
        raise UsageError(f"{file} is not a report of row {row.name} and model {model}")
    _check_versions(file, row, report["versions"])
    return report


def _check_versions(file: Path, row: Row, found: Mapping[str, str]) -> None:
    """Raise ``IntegrityError`` if the report has other versions than the row has now."""
    python = ".".join(found["python"].split(".")[:2])
    asked = {**row.packages_for(python), "tensorrt": row.tensorrt}
    for name in sorted(set(asked) & set(found)):
        told, wanted = found[name].partition("+")[0], asked[name].partition("+")[0]
        # TensorRT's bindings of 8.6.1.6 call themselves 8.6.1.
        if told != wanted and not (name == "tensorrt" and wanted.startswith(f"{told}.")):
            raise IntegrityError(
                f"{file} was made with {name} {found[name]}; row {row.name} has {asked[name]}",
                "convert again, or delete the old report",
            )


def _stage(report: Mapping[str, Any], name: str) -> Cell:
    stage = next(one for one in report["stages"] if one["name"] == name)
    lines = str(stage.get("reason") or "").strip().splitlines()
    return Cell(status=stage["status"], reason=lines[0] if lines else "")


def _parity(report: Mapping[str, Any]) -> Cell:
    """Return the status of the comparison between ONNX Runtime and torch."""
    stage = _stage(report, "onnxruntime")
    compared = [*report["parity"], *report["detections"]]
    if stage.status != "passed" or not report["parity"]:
        return (
            stage if stage.status != "passed" else Cell(status="not-run", reason="nothing compared")
        )
    failed = [one for one in compared if not one["passed"]]
    return Cell(status="failed", reason="the outputs differ") if failed else stage


def _worst(cells: Sequence[Cell]) -> Cell:
    order: tuple[Status, ...] = ("failed", "not-run", "passed")
    return min(cells, key=lambda cell: order.index(cell.status))
