"""Paths of a container under the names that they have on the machine that started it.

A conversion in a container sees the user's files below ``/mnt``. Whatever it leaves for a person
(reports, the lines of code that an ONNX file cites) names them as the user knows them.
"""

import re
from typing import Any, Callable, Dict, Mapping

_names: Dict[str, str] = {}


def set_names(names: Mapping[str, str]) -> None:
    """Set what ``shown`` replaces: the path here to the path there."""
    _names.clear()
    _names.update(names)


def replacing(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces whole paths in a text, those of files below them too."""
    if not names:
        return str
    # A longer path first, so that none is taken for the beginning of another; and all at once, so
    # that what replaces one is not replaced again.
    ordered = sorted(names, key=len, reverse=True)
    path = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, ordered))})(?!\w|[.-]\w)")
    return lambda text: path.sub(lambda match: names[match.group(0)], text)


def shown(value: Any) -> Any:
    """Return a text, or a record, tuple, list or mapping of such, with the paths replaced."""
    return _in_value(value, replacing(_names)) if _names else value


def show_in_model(model: Any) -> None:
    """Replace the paths in the lines of code that the nodes of an ``onnx.ModelProto`` cite."""
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
