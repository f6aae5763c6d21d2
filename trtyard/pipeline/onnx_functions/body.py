"""Standard nodes that take a custom node's place, where onnx is too old for functions."""

from typing import Any, List

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Body:
    """Nodes in the order they run. The names of their outputs begin with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self._prefix = prefix
        self._names = 0

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name, a new one unless given."""
        name = output or self.new_name(op_type)
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: type) -> str:
        """Add a constant, a number or a list of numbers, and return its name."""
        return self.add("Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def inside(self) -> "Body":
        """Return an empty body for a graph inside one of the nodes."""
        return Body(self.new_name("in") + "_")

    def new_name(self, what: str) -> str:
        """Return a name that no other value of this body has."""
        self._names += 1
        return f"{self._prefix}{what}_{self._names}"
