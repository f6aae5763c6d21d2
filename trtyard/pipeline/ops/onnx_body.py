"""Build the standard nodes that replace a custom node or are the body of its function."""

import copy
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtyard.pipeline.ops.contract import DOMAIN, Op

_AXES_ARE_INPUTS = {
    "Squeeze": 13,
    "Unsqueeze": 13,
    "ReduceSum": 13,
    "ReduceMax": 18,
    "ReduceMin": 18,
}


class Body:
    """Nodes in execution order. The names of their outputs start with ``prefix``."""

    def __init__(self, prefix: str, opset: int) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.opset = opset
        self._prefix = prefix
        self._names = 0

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name. The default is a new name."""
        name = output or self.new_name(op_type)
        # Node names must be unique: ONNX Runtime 1.18 names fused nodes after their parts.
        node = helper.make_node(op_type, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def over(self, op_type: str, axes: Sequence[int], value: str, **attributes: Any) -> str:
        """Add a node that works on ``axes``, which are an attribute or an input by opset."""
        if self.opset < _AXES_ARE_INPUTS[op_type]:
            return self.add(op_type, value, axes=list(axes), **attributes)
        return self.add(op_type, value, self.constant(list(axes), np.int64), **attributes)

    def constant(self, value: Any, dtype: type) -> str:
        """Add a constant number or list of numbers, and return its name."""
        return self.add("Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def cast(self, value: str, dtype: type) -> str:
        """Add a conversion to a numpy type."""
        kinds = {np.float32: TensorProto.FLOAT, np.int32: TensorProto.INT32}
        kinds.update({np.int64: TensorProto.INT64, np.bool_: TensorProto.BOOL})
        return self.add("Cast", value, to=kinds[dtype])

    def count_to(self, count: str) -> str:
        """Add the int64 numbers from 0 to ``count`` - 1."""
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        return self.add("Range", zero, count, one)

    def choice(
        self,
        condition: str,
        rank: int,
        first: "Callable[[Body], str]",
        second: "Callable[[Body], str]",
    ) -> str:
        """Add an If with one float32 output, and return the output's name."""
        graphs = {}
        for name, branch in (("then_branch", first), ("else_branch", second)):
            inner = self.inside()
            result = branch(inner)
            if not any(result in node.output for node in inner.nodes):
                result = inner.add("Identity", result)  # the branch returns an outer value
            value = helper.make_tensor_value_info(result, TensorProto.FLOAT, [None] * rank)
            graphs[name] = helper.make_graph(inner.nodes, name, [], [value])
        return self.add("If", condition, **graphs)

    def for_each(self, count: str, rank: int, step: "Callable[[Body, str], str]") -> str:
        """Add a Loop of ``count`` iterations that stacks one float32 tensor per iteration."""
        inner = self.inside()
        turn, going = inner.new_name("turn"), inner.new_name("going")
        result = step(inner, turn)
        go_on = inner.add("Identity", going)
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            inner.nodes,
            "turn",
            [value(turn, TensorProto.INT64, []), value(going, TensorProto.BOOL, [])],
            [value(go_on, TensorProto.BOOL, []), value(result, TensorProto.FLOAT, [None] * rank)],
        )
        return self.add("Loop", count, self.constant(True, np.bool_), body=graph)

    def inside(self) -> "Body":
        """Return an empty body for a subgraph."""
        return Body(self.new_name("in") + "_", self.opset)

    def new_name(self, what: str) -> str:
        """Return a name that no other value of this body has."""
        self._names += 1
        return f"{self._prefix}{what}_{self._names}"


class Attributes:
    """A custom node's attributes: known numbers, or references to a function's attributes."""

    def __init__(self, op: Op, known: Optional[Dict[str, Any]] = None) -> None:
        self._known = known
        self._floats = {name for name, kind in op.attributes if kind is float}
        self._names: Dict[str, str] = {}
        self._fixed: Dict[str, Any] = {}

    def for_part(self, names: Dict[str, str], fixed: Dict[str, Any]) -> "Attributes":
        """Return the attributes for the nodes of another op inside this one.

        Args:
            names: from the other op's attribute to the one of this op that it takes.
            fixed: the other op's attributes that are known in any case.
        """
        inner = copy.copy(self)
        inner._names, inner._fixed = names, fixed
        return inner

    def number(self, body: Body, name: str, dtype: type) -> str:
        """Add an attribute as a number of a numpy type, and return its name. The default is 0."""
        known = self.known(name)
        if known is not None:
            return body.constant(known, dtype)
        own = self._names.get(name, name)
        if dtype is np.float32 and own in self._floats:
            return self._referred(body, "value_float", onnx.AttributeProto.FLOAT, own)
        return body.cast(self._referred(body, "value_int", onnx.AttributeProto.INT, own), dtype)

    @staticmethod
    def _referred(body: Body, field: str, kind: int, name: str) -> str:
        constant = body.add("Constant")
        body.nodes[-1].attribute.add(name=field, type=kind, ref_attr_name=name)
        return constant

    def given_to(self, node: onnx.NodeProto, names: Sequence[str]) -> None:
        """Add these attributes to the node."""
        for name in names:
            known = self.known(name)
            if known is not None:
                node.attribute.append(helper.make_attribute(name, known))
                continue
            own = self._names.get(name, name)
            is_float = own in self._floats
            kind = onnx.AttributeProto.FLOAT if is_float else onnx.AttributeProto.INT
            node.attribute.add(name=name, type=kind, ref_attr_name=own)

    def known(self, name: str) -> Any:
        """Return an attribute's number if it is known, else None."""
        if name in self._fixed:
            return self._fixed[name]
        return None if self._known is None else self._known.get(self._names.get(name, name), 0)


AddNodes = Callable[[Body, Sequence[str], Sequence[str], Attributes], None]


def function_of_nodes(op: Op, opset: int, add_nodes: AddNodes) -> "onnx.FunctionProto":
    """Return the op's ONNX function; ``add_nodes`` adds the nodes of its body."""
    body = Body("", opset)
    add_nodes(body, op.inputs, op.outputs, Attributes(op))
    return helper.make_function(
        DOMAIN,
        op.op_type,
        list(op.inputs),
        list(op.outputs),
        body.nodes,
        [helper.make_opsetid("", opset)],
        [name for name, _ in op.attributes if name not in op.optional],
        [
            helper.make_attribute(name, kind(0))
            for name, kind in op.attributes
            if name in op.optional
        ],
    )


def function_of_text(file: Path, opset: int) -> "onnx.FunctionProto":
    """Return the function in the text ``file``, in which OPSET stands for the opset."""
    import onnx.parser  # from onnx 1.9 on

    text = file.read_text(encoding="utf-8")
    parsed = onnx.parser.parse_function(text.replace("OPSET", str(opset), 1))
    for node in nodes_within(parsed.node):
        node.name = node.output[0]  # as Body.add does
    return parsed


def nodes_within(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.NodeProto]":
    """Yield ``nodes`` and the nodes in their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_within(attribute.g.node)
