"""The tolerances of all families in one table, with an entry for each kind of model and output.

Larger tolerances for a type or a runtime are entries too, so every tolerance in a report is in this
table.
"""

import numpy as np

from trtyard.pipeline.models.families import KINDS, kind_of
from trtyard.pipeline.parity.kind import ANY
from trtyard.pipeline.parity.tolerance import HALF_PRECISION, Tolerance

TOLERANCES = {
    (kind.name, output): tolerance
    for kind in KINDS
    for output, tolerance in kind.tolerances.items()
}


def tolerance_for(kind: str, output: str, dtype: np.dtype, has_float16: bool = False) -> Tolerance:
    """Return the tolerance of one output.

    Args:
        kind: the model's kind, which its family registers: "classifier", or "tensor" for a
            user's own model.
        output: the output's name.
        dtype: the reference output's type; float16 has its own tolerance, unless the output has an
            entry.
        has_float16: part of a user's own model computes in float16, so its float32 outputs have
            float16's rounding errors.

    Raises:
        ValueError: the kind is unknown, or a detector's output has no entry.
    """
    entry = TOLERANCES.get((kind, output))
    if entry is not None:
        return entry
    entry = TOLERANCES.get((kind, ANY))
    if entry is None:
        known = ", ".join(f"{kind}/{output}" for kind, output in sorted(TOLERANCES))
        raise ValueError(f"no tolerance for {kind}/{output}; known are {known}")
    is_half = np.dtype(dtype) == np.float16 or (has_float16 and kind_of(kind).may_hold_float16)
    return HALF_PRECISION if is_half else entry
