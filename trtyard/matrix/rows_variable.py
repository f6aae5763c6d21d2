"""The matrix's rows as the pipeline judges them: which of them take a model as it is."""

from trtyard.core.toolchains import ROWS_VARIABLE, Toolchain, as_json
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.system.uv import MATRIX_FILE


def toolchain_of(row: Row) -> Toolchain:
    """Return what of the row decides whether it takes a model."""
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
    """Return every row of the matrix."""
    return tuple(toolchain_of(row) for row in read_matrix(MATRIX_FILE).rows.values())


def rows_variable() -> dict[str, str]:
    """Return what tells a conversion of the rows, so that its errors can name those to take.

    A variable and no part of ``row.json``: another row's change must not change this row's image.
    """
    return {ROWS_VARIABLE: as_json(matrix_toolchains())}
