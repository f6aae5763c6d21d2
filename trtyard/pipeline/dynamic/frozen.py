"""Which nodes of an ONNX file hold a dimension's size in the trace as a constant.

A trace writes ``int(x.shape[0])`` down as a number, and ``torch.ones(int(x.shape[0]))`` as a
tensor. The traced sizes are chosen so that no other dimension has them. So a small constant that
holds one, or a uniform one that has it as a dimension, is suspected. If the file computes PyTorch's
results with another size in its place, that is proven.
"""

import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.runner import run_onnx

Outputs = Dict[str, np.ndarray]

_MOST_ELEMENTS = 16  # of a constant that holds a shape or a number
_MOST_IN_UNIFORM = 1 << 20  # of a constant whose own shape is meant
_MOST_SUSPECTS = 24  # each of them costs a run


class Frozen(NamedTuple):
    """A constant that holds a traced size."""

    dimension: str
    op: str
    node: str
    origin: str  # "net.py:5 in forward"; empty if it is not known
    is_proven: bool

    def __str__(self) -> str:
        """Return the place in one line."""
        place = f"{self.op} (node {self.node})" if self.node else self.op
        return place + (f" at {self.origin}" if self.origin else "")


class _Suspect(NamedTuple):
    node: int  # its index
    input: int
    dimension: str
    value: np.ndarray  # the constant


def frozen_sizes(
    file: Path,
    inputs: Outputs,
    output_names: Sequence[str],
    traced: Mapping[str, int],
    sizes: Mapping[str, int],
    agrees: Callable[[Outputs], bool],
) -> List[Frozen]:
    """Return the constants that explain why the file fails at a size.

    Args:
        file: the model.
        inputs: of the size at which it fails.
        output_names: of the model.
        traced: the size of each dimension in the trace.
        sizes: the size of each dimension in ``inputs``.
        agrees: whether outputs are PyTorch's.
    """
    model = onnx.load(str(file))
    suspects = _suspects(model, traced, sizes)[:_MOST_SUSPECTS]
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder, "changed.onnx")

        def explains(chosen: Sequence[_Suspect]) -> bool:
            onnx.save(_with_sizes(model, chosen, traced, sizes), str(changed))
            try:
                with output_kept_away():
                    return agrees(run_onnx(changed, inputs, output_names))
            except ConversionError:
                return False

        for suspect in suspects:
            if explains([suspect]):
                return [_described(model, suspect, is_proven=True)]
        if len(suspects) > 1 and explains(suspects):
            return [_described(model, each, is_proven=True) for each in _needed(suspects, explains)]
    # A tensor of that shape proves nothing by itself: weights have such dimensions too.
    return [_described(model, each, is_proven=False) for each in suspects if _holds(each, traced)]


def _needed(
    suspects: List[_Suspect], explains: Callable[[Sequence[_Suspect]], bool]
) -> List[_Suspect]:
    """Return the suspects without those that can stay as they are."""
    kept = list(suspects)
    for suspect in suspects:
        rest = [each for each in kept if each is not suspect]
        if rest and explains(rest):
            kept = rest
    return kept


def _suspects(
    model: onnx.ModelProto, traced: Mapping[str, int], sizes: Mapping[str, int]
) -> List[_Suspect]:
    """Return the constants that hold a traced size, then those that have it as a dimension."""
    constants = _constants(model.graph)
    frozen = [(name, size) for name, size in traced.items() if size != sizes[name]]
    holding, shaped = [], []
    for number, node in enumerate(model.graph.node):
        for index, name in enumerate(node.input):
            value = constants.get(name)
            if value is None:
                continue
            for dimension, size in frozen:
                one = _Suspect(number, index, dimension, value)
                if _holds(one, traced):
                    holding.append(one)
                elif _resized(value, size, sizes[dimension]) is not None:
                    shaped.append(one)
    return holding + shaped


def _holds(suspect: _Suspect, traced: Mapping[str, int]) -> bool:
    """Tell whether a small constant has the traced size among its values."""
    value = suspect.value
    return value.size <= _MOST_ELEMENTS and bool((value == traced[suspect.dimension]).any())


def _resized(value: np.ndarray, traced: int, size: int) -> Optional[np.ndarray]:
    """Return a constant with another size where it has the traced one, or None.

    Only what has no other choice is resized: equal slices, and the numbers from 0 up.
    """
    if traced not in value.shape:
        return None
    axis = value.shape.index(traced)
    first = np.take(value, [0], axis)
    if np.array_equal(value, np.broadcast_to(first, value.shape)):
        return np.repeat(first, size, axis)
    if np.array_equal(value.ravel(), np.arange(traced)):
        shape = [size if at == axis else 1 for at in range(value.ndim)]
        return np.arange(size).astype(value.dtype).reshape(shape)
    return None


def _constants(graph: onnx.GraphProto) -> Dict[str, np.ndarray]:
    tensors = [(each.name, each) for each in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            tensors += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    found = {}
    for name, tensor in tensors:
        elements = 1
        for size in tensor.dims:
            elements *= size
        if elements <= _MOST_IN_UNIFORM and tensor.data_type != onnx.TensorProto.STRING:
            found[name] = numpy_helper.to_array(tensor)
    return found


def _with_sizes(
    model: onnx.ModelProto,
    suspects: Sequence[_Suspect],
    traced: Mapping[str, int],
    sizes: Mapping[str, int],
) -> onnx.ModelProto:
    """Return the model with the sizes in place of the traced ones."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]  # their shapes may be frozen as well
    for value in changed.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.ClearField("dim_value")
    values: Dict[Tuple[int, int], np.ndarray] = {}
    for one in suspects:
        value = values.get((one.node, one.input), one.value)
        was, size = traced[one.dimension], sizes[one.dimension]
        resized = None if _holds(one, traced) else _resized(value, was, size)
        if resized is None:
            resized = np.where(value == was, np.asarray(size).astype(value.dtype), value)
        values[one.node, one.input] = resized
    for (number, index), value in values.items():
        name = f"trtyard_size_{number}_{index}"
        tensor = np.asarray(value, dtype=value.dtype)
        changed.graph.initializer.append(numpy_helper.from_array(tensor, name))
        changed.graph.node[number].input[index] = name
    return changed


def _described(model: onnx.ModelProto, suspect: _Suspect, is_proven: bool) -> Frozen:
    node = model.graph.node[suspect.node]
    origin = origin_of(node) or ""
    return Frozen(suspect.dimension, node.op_type, node.name, origin, is_proven)
