"""Passes the matrix's rows to the pipeline, whose errors name rows that support a model."""

from trtyard.core.toolchains import ROWS_VARIABLE, Toolchain, as_json
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


def rows_variable() -> dict[str, str]:
    """Return the environment variable with all rows, so that errors can suggest other rows.

    It is not in ``row.json``, because a change of one row must not change the image of another.
    """
    return {ROWS_VARIABLE: as_json(matrix_toolchains())}
