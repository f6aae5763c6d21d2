"""Parts of an ONNX file that run alone, on values that are given to them."""

from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set

import numpy as np
import onnx
from onnx import helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_model.symptoms import used_by
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS, session

_OWN = "__own"  # behind the name of an output whose right value is an input as well
_CONSTANT = "Constant"
_LARGE = 256 << 20  # bytes of inputs

Arrays = Dict[str, np.ndarray]


class Graph:
    """A model's nodes, constants and who makes what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: List[onnx.NodeProto] = list(model.graph.node)
        self.weights = {each.name: each for each in model.graph.initializer}
        self.makers = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }
        self.constants = {node.output[0]: node for node in self.nodes if node.op_type == _CONSTANT}
        self.inputs = [each.name for each in model.graph.input if each.name not in self.weights]
        self.outputs = [each.name for each in model.graph.output]
        self.uses = [used_by(node) for node in self.nodes]

    def is_constant(self, name: str) -> bool:
        """Tell whether the file holds the value itself."""
        return name in self.weights or name in self.constants

    def reads(self, index: int) -> Set[str]:
        """Return what a node reads, but for the constants."""
        return {name for name in self.uses[index] if not self.is_constant(name)}

    def region(self, name: str, known: Iterable[str]) -> "Region":
        """Return the nodes that make ``name`` from values in ``known``, and these values."""
        stop = set(known) | set(self.inputs)
        nodes: Set[int] = set()
        inputs: Set[str] = set()
        waiting = [self.makers[name]]
        while waiting:
            index = waiting.pop()
            if index in nodes:
                continue
            nodes.add(index)
            for each in self.reads(index):
                if each in stop:
                    inputs.add(each)
                elif each in self.makers:
                    waiting.append(self.makers[each])
        return Region(tuple(sorted(nodes)), tuple(sorted(inputs)))

    def before(self, name: str) -> Set[int]:
        """Return all nodes that ``name`` depends on."""
        if name not in self.makers:
            return set()
        return set(self.region(name, ()).nodes)

    def part(
        self, nodes: Sequence[int], inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> onnx.ModelProto:
        """Return a model of some nodes.

        A value that is both made by one of them and among ``inputs`` is read from there; the made
        one has ``_OWN`` behind its name.
        """
        copies = []
        used: Set[str] = set()
        for index in nodes:
            node = onnx.NodeProto()
            node.CopyFrom(self.nodes[index])
            for place, name in enumerate(node.output):
                if name in inputs:
                    node.output[place] = name + _OWN
            copies.append(node)
            used |= self.uses[index]
        constants = [self.constants[name] for name in sorted(used) if name in self.constants]
        graph = helper.make_graph(
            [*constants, *copies],
            "part",
            [_declared(name, value) for name, value in inputs.items() if name in used],
            [onnx.ValueInfoProto(name=name + (_OWN if name in inputs else "")) for name in outputs],
            [self.weights[name] for name in sorted(used) if name in self.weights],
        )
        model = onnx.ModelProto(ir_version=self.model.ir_version, graph=graph)
        model.opset_import.extend(self.model.opset_import)
        if HAS_FUNCTIONS:
            model.functions.extend(self.model.functions)
        return model

    def run(
        self, nodes: Sequence[int], inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Arrays:
        """Return what ``part`` computes, by the outputs' own names.

        Raises:
            ConversionError: ONNX Runtime cannot run it.
        """
        return run_model(self.part(nodes, inputs, outputs), inputs, outputs)


class Region(NamedTuple):
    """The nodes between values that are known."""

    nodes: Sequence[int]
    inputs: Sequence[str]


def run_model(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> Arrays:
    """Return the first outputs of ``model``, by the names ``outputs``.

    Raises:
        ConversionError: ONNX Runtime cannot run it.
    """
    if not outputs:
        return {}
    try:
        given = {each.name: inputs[each.name] for each in model.graph.input}
        # With fusion, ONNX Runtime copies the input of a convolution into another layout.
        is_large = sum(value.nbytes for value in given.values()) > _LARGE
        ready = session(model.SerializeToString(), is_fused=not is_large)
        found = ready.run([each.name for each in model.graph.output], given)
    except Exception as error:  # its exceptions share no base class of their own
        words = f"ONNX Runtime cannot run a part of the file: {str(error).strip()}"
        raise ConversionError(words, log=str(error)) from error
    return dict(zip(outputs, found))


def _declared(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
    )
