"""The user's lines of nodes whose recorded stack names code that torch.export generated.

torch.export keeps what runs inside of torch.autocast, torch.no_grad or torch.cond as a module of
its own. When the exporter runs that again, each node's stack is a line of the module's generated
code, "<eval_with_key>.28", which computes one node of it. That node knows the user's line.
"""

import re
from typing import Any, Dict, Iterable, Tuple

import onnx
import torch

from trtyard.pipeline.onnx_model.origin import STACK_TRACE
from trtyard.pipeline.onnx_model.symptoms import inner_graphs

_GENERATED = re.compile(
    r'File "(<eval_with_key>[^"]*)", line \d+, in \S+\n\s*(\w+)(?:: [^=\n]+)? = '
)

_Stacks = Dict[Tuple[str, str], str]  # by the generated code's file and the node's name


def name_users_lines(graph: onnx.GraphProto, program: Any) -> None:
    """Replace stacks of generated code by those of the program's nodes that it computes.

    Args:
        graph: of the exported model.
        program: what torch.export gave for it.
    """
    stacks = _stacks_in(program.graph_module)
    if stacks:
        _replace(graph.node, stacks)


def users_stack(stack: str, program: Any) -> str:
    """Return the stack with what it cites of generated code replaced by the user's."""
    return _without_generated(stack, _stacks_in(program.graph_module))


def _replace(nodes: Iterable[onnx.NodeProto], stacks: _Stacks) -> None:
    for node in nodes:
        for entry in node.metadata_props:
            if entry.key == STACK_TRACE:
                entry.value = _without_generated(entry.value, stacks)
        for inner in inner_graphs(node):
            _replace(inner.node, stacks)


def _without_generated(stack: str, stacks: _Stacks) -> str:
    for match in reversed(list(_GENERATED.finditer(stack))):  # the innermost call comes last
        known = stacks.get((match.group(1), match.group(2)))
        if known:
            return known
    return stack


def _stacks_in(module: torch.nn.Module) -> _Stacks:
    found: _Stacks = {}
    for name, inner in module.named_modules():
        if not name or not isinstance(inner, torch.fx.GraphModule):
            continue
        file = type(inner).forward.__code__.co_filename
        for node in inner.graph.nodes:
            stack = node.meta.get("stack_trace")
            if stack:
                found[file, node.name] = stack
    return found
