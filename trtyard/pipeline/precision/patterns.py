"""``--keep-fp32``: patterns of node names and op types."""

import difflib
from fnmatch import fnmatchcase
from typing import Set

import onnx

from trtyard.core.errors import UsageError

_MOST_NEAR = 3


def nodes_matching(graph: onnx.GraphProto, patterns: str) -> Set[str]:
    """Return the names of the nodes whose name or op type matches one of ``patterns``.

    Args:
        graph: every node has a name of its own.
        patterns: as in fnmatch, separated by commas.

    Raises:
        UsageError: a pattern matches no node.
    """
    found: Set[str] = set()
    for pattern in (each.strip() for each in patterns.split(",")):
        matching = {
            node.name
            for node in graph.node
            if fnmatchcase(node.name, pattern) or fnmatchcase(node.op_type, pattern)
        }
        if not matching:
            raise UsageError(f"--keep-fp32: no node matches '{pattern}'", _similar(graph, pattern))
        found |= matching
    return found


def _similar(graph: onnx.GraphProto, pattern: str) -> str:
    types = sorted({node.op_type for node in graph.node})
    names = [node.name for node in graph.node]
    near = difflib.get_close_matches(pattern.strip("*"), types + names, _MOST_NEAR, 0.4)
    if near:
        return f"similar: {', '.join(near)}"
    return f"the model's op types: {', '.join(types)}"
