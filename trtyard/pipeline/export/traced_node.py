"""The node of a trace at which the TorchScript exporter stopped.

Its exceptions name the op at most. The function that raised held the node, and the node knows the
Python stack that it was traced from.
"""

import linecache
from typing import Iterator, NamedTuple, Optional

import torch

from trtyard.pipeline.onnx_model.origin import line_in_doc


class TracedNode(NamedTuple):
    """Where the exporter stopped."""

    op: str  # such as "aten::histc"
    line: str  # "net.py:14 in forward: return x.histc()"; empty where no code is known


def traced_node(error: BaseException) -> Optional[TracedNode]:
    """Return the node that the innermost function of ``error``'s traceback held, or None."""
    for value in _locals_inside_out(error):
        if isinstance(value, torch._C.Node):
            try:
                return TracedNode(value.kind(), _in_words(value.sourceRange()))
            except RuntimeError:  # the exporter has replaced it, and says so
                continue
    return None


def _locals_inside_out(error: BaseException) -> Iterator[object]:
    frames = []
    step = error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    for frame in reversed(frames):
        yield from list(frame.f_locals.values())


def _in_words(stack: str) -> str:
    found = line_in_doc(stack)
    if found is None:
        return ""
    file, line, function = found
    code = linecache.getline(file, int(line)).strip()
    return f"{file}:{line} in {function}" + (f": {code}" if code else "")
