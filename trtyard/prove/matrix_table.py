"""The matrix as a Markdown table, with the verification status of each row."""

from collections.abc import Mapping, Sequence

from trtyard.matrix.reader import Matrix
from trtyard.matrix.row import Row
from trtyard.prove.verification import COLUMNS, Cell, Column, Verified

HEADS = (
    "row",
    "TensorRT",
    "Python",
    "torch / torchvision",
    "ONNX opset, exporter",
    "CUDA",
    "engines run on",
    "verified",
)
_EXPORTERS = {"torchscript": "TorchScript"}


def table(matrix: Matrix, verified: Verified) -> str:
    """Return the table, followed by a numbered list of the reasons for failed or skipped steps."""
    reasons = list(
        dict.fromkeys(
            cell.reason for cells in verified.values() for cell in cells.values() if cell.reason
        )
    )
    lines = [f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    for row in matrix.rows.values():
        words = (*_facts(matrix, row), _in_words(verified[row.name], reasons))
        lines.append(f"| {' | '.join(words)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes, ""]) if notes else "\n".join([*lines, ""])


def _facts(matrix: Matrix, row: Row) -> tuple[str, ...]:
    aliases = [f"`{alias}`" for alias, name in matrix.aliases().items() if name == row.name]
    also = [word for word in aliases if word != "`default`"]
    notes = ["default"] if "`default`" in aliases else []
    notes += [f"also {', '.join(also)}"] if also else []
    return (
        f"`{row.name}`" + (f" ({'; '.join(notes)})" if notes else ""),
        f"{'TensorRT for RTX ' if row.flavour == 'rtx' else ''}{row.tensorrt}",
        row.python,
        f"{row.packages['torch']} / {row.packages['torchvision']}",
        f"{row.opset}, {_EXPORTERS.get(row.exporter, row.exporter)}",
        row.cuda,
        ", ".join(row.runs_on),
    )


def _in_words(cells: Mapping[Column, Cell], reasons: Sequence[str]) -> str:
    """Return the columns that passed, failed and were not run, each with its reason's number."""
    said = []
    for status, words in (("passed", ""), ("failed", "**FAILED**: "), ("not-run", "not run: ")):
        names = [
            column.replace("-", " ") + _number(cells[column], reasons)
            for column in COLUMNS
            if cells[column].status == status
        ]
        if names:
            said.append(words + ", ".join(names))
    return "; ".join(said)


def _number(cell: Cell, reasons: Sequence[str]) -> str:
    return f" ({reasons.index(cell.reason) + 1})" if cell.reason else ""
