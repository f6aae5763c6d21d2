"""A line of a log for an op that came with a later opset than the export's.

The pipeline writes it, for it has onnx's schemas. The host reads it, for it knows which rows take
the op.
"""

import re
from typing import NamedTuple, Optional

_LINE = re.compile(r"^(\w+) came with opset (\d+), and the export is at (\d+)$", re.MULTILINE)


class LaterOpset(NamedTuple):
    """An op and its first opset."""

    op: str
    first: int
    opset: int  # of the export


def later_opset_log(op: str, first: int, opset: int) -> str:
    """Return the line."""
    return f"{op} came with opset {first}, and the export is at {opset}"


def later_opset_in(log: str) -> Optional[LaterOpset]:
    """Return what such a line in ``log`` says; None if there is none."""
    found = _LINE.search(log)
    if found is None:
        return None
    return LaterOpset(found.group(1), int(found.group(2)), int(found.group(3)))
