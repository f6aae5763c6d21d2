"""Replace a container's paths with the user's paths.

A conversion in a container sees the user's files in ``/mnt``. Reports and the source lines in an
ONNX file show the user's paths instead.
"""

import re
from typing import Any, Callable, Dict, Mapping

_names: Dict[str, str] = {}


def set_names(names: Mapping[str, str]) -> None:
    """Set the mapping for ``shown``: path in the container to the user's path."""
    _names.clear()
    _names.update(names)


def replacing(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces these paths in a text, also as a prefix of longer paths."""
    if not names:
        return str
    # Longer paths first, so that none matches as the prefix of another; in one pass, so that no
    # replacement is replaced again.
    ordered = sorted(names, key=len, reverse=True)
    path = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, ordered))})(?!\w|[.-]\w)")
    return lambda text: path.sub(lambda match: names[match.group(0)], text)


def shown(value: Any) -> Any:
    """Return a text, record, tuple, list or mapping with the paths in it replaced."""
    return _in_value(value, replacing(_names)) if _names else value


def show_in_model(model: Any) -> None:
    """Replace the paths in the source lines of an ``onnx.ModelProto``'s nodes."""
    if _names:
        replace = replacing(_names)
        for nodes in (model.graph.node, *(one.node for one in getattr(model, "functions", ()))):
            _in_nodes(nodes, replace)


def _in_nodes(nodes: Any, replace: Callable[[str], str]) -> None:
    for node in nodes:
        node.doc_string = replace(node.doc_string)
        for entry in getattr(node, "metadata_props", ()):  # from onnx 1.16 on
            entry.value = replace(entry.value)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _in_nodes(graph.node, replace)


def _in_value(value: Any, replace: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {key: _in_value(one, replace) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        found = [_in_value(one, replace) for one in value]
        return type(value)(*found) if hasattr(value, "_fields") else type(value)(found)
    return value
