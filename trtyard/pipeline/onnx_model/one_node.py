"""A model cut into graphs of one node each, so that a runtime can be asked about every node alone.

Inputs that may be shapes or indices become constants, with the values of a trial run: in the whole
graph a runtime folds them, and a graph that got them from outside would be another, dynamic one.
"""

import hashlib
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import onnx
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import UsageError
from trtyard.pipeline.onnx_model.symptoms import inner_graphs, used_by
from trtyard.pipeline.onnx_model.trial_run import Tensor, fixed_shape, trial_run
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS

_DEFAULT_DOMAINS = ("", "ai.onnx")
_CONSTANT = "Constant"


class OneNode(NamedTuple):
    """Nodes that differ in nothing but their names, and a graph that holds one of them."""

    nodes: Tuple[onnx.NodeProto, ...]
    model: Optional[onnx.ModelProto]
    problem: str = ""  # why there is no graph

    @property
    def op(self) -> str:
        """The op type, see ``op_of``."""
        return op_of(self.nodes[0])


def op_of(node: onnx.NodeProto) -> str:
    """Return a node's op type, with its domain where that is not ONNX's own."""
    is_standard = node.domain in _DEFAULT_DOMAINS
    return node.op_type if is_standard else f"{node.domain}::{node.op_type}"


def inner_ops(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the ops in the graphs that a node such as If or Loop holds."""
    for graph in inner_graphs(node):
        for inner in graph.node:
            yield op_of(inner)
            yield from inner_ops(inner)


def one_node_models(model: onnx.ModelProto) -> List[OneNode]:
    """Return a graph for each kind of node in ``model``, in the order they come.

    Raises:
        UsageError: an input of the model has no fixed shape.
    """
    check_static(model)
    graph = _Graph(model, trial_run(model))
    kinds: Dict[str, List[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type != _CONSTANT:
            kinds.setdefault(graph.signature(node), []).append(node)
    return [graph.alone(nodes) for nodes in kinds.values()]


def check_static(model: onnx.ModelProto) -> None:
    """Raise a UsageError where an input of the model has no fixed shape."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants and fixed_shape(value) is None:
            raise UsageError(
                f"input {value.name} of the file has no fixed shape",
                "export it with fixed shapes: ./run convert --input 1x3x224x224",
            )


class _Graph:
    """A model with the known shapes and types of its tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Dict[str, Tensor]) -> None:
        self._model = model
        self._tensors = tensors
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._constants = {
            node.output[0]: node for node in model.graph.node if node.op_type == _CONSTANT
        }

    def signature(self, node: onnx.NodeProto) -> str:
        """Return a text that two nodes share if a runtime has no reason to tell them apart."""
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        for field in ("name", "doc_string", "input", "output", "metadata_props"):
            if field in plain.DESCRIPTOR.fields_by_name:
                plain.ClearField(field)
        words = [plain.SerializeToString(deterministic=True).hex()]
        return " ".join([*words, *(self._kind_of(name) for name in node.input)])

    def _kind_of(self, name: str) -> str:
        if name in self._weights:
            weight = self._weights[name]
            return f"weight {weight.data_type} {list(weight.dims)} {_content(weight)}"
        if name in self._constants:
            return self._constants[name].attribute[0].SerializeToString(deterministic=True).hex()
        found = self._tensors.get(name)
        if found is None:
            return f"unknown {name}"
        value = "" if found.value is None else str(found.value.tolist())
        return f"{found.elem_type} {found.shape} {value}"

    def alone(self, nodes: List[onnx.NodeProto]) -> OneNode:
        """Return the graph that holds the first of ``nodes``."""
        node = nodes[0]
        inputs, weights, before = [], [], []
        for name in sorted(used_by(node)):
            found = self._tensors.get(name)
            if name in self._weights:
                weights.append(self._weights[name])
            elif name in self._constants:
                before.append(self._constants[name])
            elif found is None:
                return OneNode(tuple(nodes), None, f"the shape of its input {name} is not known")
            elif 0 in found.shape:
                return OneNode(tuple(nodes), None, f"its input {name} is empty in a trial run")
            elif found.value is not None:
                weights.append(numpy_helper.from_array(found.value, name))
            else:
                inputs.append(helper.make_tensor_value_info(name, found.elem_type, found.shape))
        outputs = [self._output(name) for name in node.output if name]
        graph = helper.make_graph([*before, node], "one_node", inputs, outputs, weights)
        # Not a copy of the whole model with another graph: its weights would stay in memory.
        model = onnx.ModelProto(ir_version=self._model.ir_version, graph=graph)
        model.opset_import.extend(self._model.opset_import)
        if HAS_FUNCTIONS:
            model.functions.extend(self._model.functions)
        return OneNode(tuple(nodes), model)

    def _output(self, name: str) -> onnx.ValueInfoProto:
        found = self._tensors.get(name)
        if found is None:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        # The rank alone: a size may hang on values.
        return helper.make_tensor_value_info(name, found.elem_type, [None] * len(found.shape))


def _content(weight: onnx.TensorProto) -> str:
    """Return what tells two weights apart: shapes and axes by value, others not at all."""
    if weight.data_type not in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL):
        return ""
    return hashlib.sha256(numpy_helper.to_array(weight).tobytes()).hexdigest()
