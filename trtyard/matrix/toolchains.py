"""The matrix's rows as toolchains, to tell which rows support a model."""

from trtyard.core.toolchains import Toolchain
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.system.uv import MATRIX_FILE


def toolchain_of(row: Row) -> Toolchain:
    """Return the facts of the row that decide whether it supports a model."""
    return Toolchain(
        row=row.name,
        flavour=row.flavour,
        tensorrt=row.tensorrt,
        torch=row.packages["torch"],
        exporter=row.exporter,
        opset=row.opset,
        runs_on=row.runs_on,
    )


def matrix_toolchains() -> tuple[Toolchain, ...]:
    """Return the toolchain of every row of the matrix."""
    return tuple(toolchain_of(row) for row in read_matrix(MATRIX_FILE).rows.values())
