"""Where in the user's Python code an ONNX node came from, as its exporter recorded it."""

import re
from pathlib import Path
from typing import Iterable, List, Optional, Tuple

import onnx

from trtyard.core.cited_lines import FRAME, TRACED

# The dynamo exporter's metadata key; its value is the stack, outermost call first.
STACK_TRACE = "pkg.torch.onnx.stack_trace"

# From here on outwards it is the export and not the model.
_TRACER = ("/torch/jit/", "/torch/onnx/")
_NAME = re.compile(r"[\w./:-]+")
# Not where a model is changed; the model's own code calls them.
_LIBRARIES = (
    "/site-packages/",
    "/dist-packages/",
    "/trtyard/pipeline/ops/",
    "/trtyard/pipeline/torch_support/versions.py",
)


def last_line_in(stack: str) -> Optional[str]:
    """Return the innermost call of the model's own code that ``stack`` cites.

    As ``file:line in function: code``; where all are a library's, the innermost of its model.
    """
    cited = list(FRAME.finditer(stack))
    chosen = model_line([match.group("file") for match in reversed(cited)])
    if chosen is None:
        return None
    file, line, function, code = cited[-1 - chosen].group("file", "line", "function", "code")
    return f"{file}:{line} in {function}: {(code or '').strip()}"


def keep_lines(graph: onnx.GraphProto) -> None:
    """Leave one line of every node's doc string: that of the model's own code.

    A whole stack takes 2 kB a node; the TorchScript exporter keeps all of it or nothing.
    """
    for node in graph.node:
        node.doc_string = _own_line(node.doc_string)
        for attribute in node.attribute:
            for inner in attribute.graphs:
                keep_lines(inner)
            if attribute.HasField("g"):
                keep_lines(attribute.g)


def line_in_doc(stack: str) -> Optional[Tuple[str, str, str]]:
    """Return file, line and function of the innermost call of the model's own code.

    Args:
        stack: as the tracer notes it, ``net.py(14): forward`` and so on, the innermost call first.
    """
    found = TRACED.search(_own_line(stack))
    if found is None:
        return None
    return found.group("file"), found.group("line"), found.group("function")


def _own_line(stack: str) -> str:
    """Return the innermost call of the model's own code, as ``last_line_in`` does."""
    lines = []
    for match in TRACED.finditer(stack):
        if any(part in match.group("file") for part in _TRACER):
            break
        lines.append(match)
    chosen = model_line([one.group("file") for one in lines])
    return "" if chosen is None else str(lines[chosen].group(0))


def model_line(files: List[str]) -> Optional[int]:
    """Return which of a stack's files, innermost first, is the model's own code; None for none."""
    return next(iter(model_lines(files)), 0 if files else None)


def model_lines(files: List[str]) -> List[int]:
    """Return all that are the model's own code; where none is, those of a library of models."""
    own = [n for n, file in enumerate(files) if not any(part in file for part in _LIBRARIES)]
    return own or [n for n, file in enumerate(files) if "/torch/" not in file]


def origin_of(node: onnx.NodeProto) -> Optional[str]:
    """Return the Python line that ``node`` came from, or the scope in its name, or None."""
    for entry in getattr(node, "metadata_props", ()):  # from onnx 1.16 on
        if entry.key == STACK_TRACE:
            return last_line_in(entry.value)
    line = line_in_doc(node.doc_string)
    if line is not None:
        return "{}:{} in {}".format(*line)
    # The TorchScript exporter puts the modules' path into the name: /block/conv/Conv.
    return f"module {node.name.rpartition('/')[0]}" if node.name.count("/") > 1 else None


def describe(node: onnx.NodeProto) -> str:
    """Return op, node name and origin in one or two lines."""
    name = f" (node {node.name})" if node.name else ""
    origin = origin_of(node)
    return f"  op: {node.op_type}{name}" + (f"\n  at {origin}" if origin else "")


def nodes_named_in(words: str, file: Path) -> List[onnx.NodeProto]:
    """Return the nodes of ``file`` that ``words`` names."""
    return nodes_in_words(words, onnx.load(str(file), load_external_data=False).graph.node)


def nodes_in_words(words: str, nodes: Iterable[onnx.NodeProto]) -> List[onnx.NodeProto]:
    """Return those of ``nodes`` that ``words`` names.

    TensorRT numbers the further layers that it makes of one node: ``name_1``.
    """
    words_alone = {word.strip(":.,") for word in _NAME.findall(words)}
    named = words_alone | {re.sub(r"_\d+$", "", word) for word in words_alone}
    return [
        node
        for node in nodes
        # A name may have spaces, as in nn.ModuleDict({"my block": ...}), and is then several words.
        if node.name in (named if _NAME.fullmatch(node.name) else words) and node.name
    ]


def node_at(index: int, file: Path) -> Optional[onnx.NodeProto]:
    """Return the node at ``index`` of the graph in ``file``."""
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    return nodes[index] if 0 <= index < len(nodes) else None
