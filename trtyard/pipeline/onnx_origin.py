"""Where in the user's Python code an ONNX node came from, as its exporter recorded it."""

import re
from pathlib import Path
from typing import List, Optional

import onnx

# The dynamo exporter's metadata key; its value is the stack, outermost call first.
STACK_TRACE = "pkg.torch.onnx.stack_trace"

_STACK_LINE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')


def last_line_in(stack: str) -> Optional[str]:
    """Return the innermost call that ``stack`` cites, as ``file:line in function: code``."""
    cited = _STACK_LINE.findall(stack)
    if not cited:
        return None
    file, line, function, code = cited[-1]
    return f"{file}:{line} in {function}: {code.strip()}"


def origin_of(node: onnx.NodeProto) -> Optional[str]:
    """Return the Python line that ``node`` came from, or the scope in its name, or None."""
    for entry in getattr(node, "metadata_props", ()):  # from onnx 1.16 on
        if entry.key == STACK_TRACE:
            return last_line_in(entry.value)
    # The TorchScript exporter puts the modules' path into the name: /block/conv/Conv.
    return f"module {node.name.rpartition('/')[0]}" if node.name.count("/") > 1 else None


def describe(node: onnx.NodeProto) -> str:
    """Return op, node name and origin in one or two lines."""
    name = f" (node {node.name})" if node.name else ""
    origin = origin_of(node)
    return f"  op: {node.op_type}{name}" + (f"\n  at {origin}" if origin else "")


def nodes_named_in(words: str, file: Path) -> List[onnx.NodeProto]:
    """Return the nodes of ``file`` whose names stand in ``words``.

    TensorRT numbers the further layers that it makes of one node: ``name_1``.
    """
    words_alone = {word.strip(":.,") for word in re.findall(r"[\w./:-]+", words)}
    named = words_alone | {re.sub(r"_\d+$", "", word) for word in words_alone}
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    return [node for node in nodes if node.name and node.name in named]


def node_at(index: int, file: Path) -> Optional[onnx.NodeProto]:
    """Return the node at ``index`` of the graph in ``file``."""
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    return nodes[index] if 0 <= index < len(nodes) else None
