"""Shapes and types of every tensor of a model, from a run in ONNX Runtime on made-up inputs."""

import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_model.versions import session

# Tensors of these types may be shapes, axes or indices: their values make the graph.
_SHAPE_TYPES = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
_SHAPE_OF = "trial_shape_of:"
_SEED = 0


class Tensor(NamedTuple):
    """What one tensor was in the trial."""

    elem_type: int  # onnx.TensorProto's
    shape: Tuple[int, ...]
    value: Optional[np.ndarray]  # of what may be a shape: whole numbers of rank 0 and 1


def trial_run(model: onnx.ModelProto) -> Dict[str, Tensor]:
    """Return the tensors of ``model`` by name, as far as they are known.

    Every input must have a fixed shape. The run is asked for shapes, and for values only of what
    may be a shape, so it needs no more memory than any other. Where ONNX Runtime cannot run the
    model, what shape inference knows is returned.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = inferred.graph
    known = {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}
    types = {name: value.type.tensor_type.elem_type for name, value in known.items()}
    watched = [name for node in graph.node for name in node.output if name and types.get(name)]
    values = [name for name in watched if types[name] in _SHAPE_TYPES and _rank(known[name]) <= 1]
    found = {
        name: Tensor(types[name], tuple(shape), None)
        for name, shape in ((name, fixed_shape(value)) for name, value in known.items())
        if shape is not None and types[name]
    }
    try:
        run = _run(model, watched, values, types)
    except Exception:  # its exceptions have no common base class; without a trial run less is known
        return found
    for name in watched:
        value = run.get(name)
        if value is not None and value.ndim > 1:
            value = None
        shape = tuple(int(size) for size in run[_SHAPE_OF + name])
        found[name] = Tensor(types[name], shape, value)
    return found


def fixed_shape(value: onnx.ValueInfoProto) -> Optional[List[int]]:
    """Return a tensor's shape, or None if it is not fixed."""
    tensor = value.type.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    sizes = [each.dim_value if each.HasField("dim_value") else -1 for each in tensor.shape.dim]
    return None if any(size < 0 for size in sizes) else sizes


def _rank(value: onnx.ValueInfoProto) -> int:
    """Return the rank, or 0 if it is not known."""
    return len(value.type.tensor_type.shape.dim)


def _run(
    model: onnx.ModelProto, watched: List[str], values: List[str], types: Dict[str, int]
) -> Dict[str, np.ndarray]:
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    for name in watched:
        asked.graph.node.append(helper.make_node("Shape", [name], [_SHAPE_OF + name]))
        asked.graph.output.append(
            helper.make_tensor_value_info(_SHAPE_OF + name, TensorProto.INT64, None)
        )
    for name in values:
        asked.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    names = [value.name for value in asked.graph.output]
    constants = {tensor.name for tensor in model.graph.initializer}
    generator = np.random.RandomState(_SEED)
    given = {
        value.name: _made_up(value, generator)
        for value in model.graph.input
        if value.name not in constants
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trial.onnx")
        onnx.save(asked, str(file))
        return dict(zip(names, session(file).run(names, given)))


def _made_up(value: onnx.ValueInfoProto, generator: np.random.RandomState) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = fixed_shape(value)
    if np.issubdtype(dtype, np.floating):
        return generator.random_sample(shape).astype(dtype)
    return np.zeros(shape or [], dtype)
