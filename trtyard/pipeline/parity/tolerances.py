"""The tolerances of all families, as one table: an entry for each kind of model and output.

Looser ones for a type or a runtime are entries too, so that a report never has a number that is
not in this table.
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
        dtype: the reference output's type; float16 gets a tolerance that fits float16, except
            where the output has an entry of its own.
        has_float16: a user's own model computes in float16 somewhere, so that its float32 outputs
            carry float16's rounding too.

    Raises:
        ValueError: an unknown kind, or a detector's output that has no entry.
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
