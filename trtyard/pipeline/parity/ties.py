"""Find choices among equal values, which two runtimes may make differently.

TopK, ArgMax and sorting choose by their input's values. If two runtimes' inputs differ by rounding
or have equal values, their choices may differ, and both are right. A test proves that nothing else
differs: PyTorch's choices, each as good by ONNX Runtime's values, replace the choosing nodes in the
file. ONNX Runtime must then return PyTorch's results.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.one_run import buffers_kept, run_once
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.tolerance import VALUES

_TOP_K = "TopK"
_ARGUMENTS = ("ArgMax", "ArgMin")
_MOST_CHOICES = 50  # limit of choices that are checked, as each needs a run of the model
# Inputs that differ by more than the outputs' tolerance differ by more than rounding.
_SAME = VALUES


class _Choice(NamedTuple):
    """A choice of elements along the last axis."""

    values: np.ndarray  # all elements, [..., n]
    indices: np.ndarray  # [..., k], int64
    largest: bool


class Tie(NamedTuple):
    """A node that chose other elements than PyTorch, but equally good ones."""

    op: str
    origin: str  # the user's line, or the node's name


def proven_ties(
    model: Model,
    file: Path,
    inputs: Dict[str, np.ndarray],
    agrees: Callable[[Dict[str, np.ndarray]], bool],
) -> List[Tie]:
    """Return the choices among equal values that explain the whole difference from PyTorch.

    Empty if something else differs too, or if there is no proof.

    Args:
        model: the converted model.
        file: the file that ONNX Runtime ran.
        inputs: of the run, by name.
        agrees: returns whether outputs agree with PyTorch's.
    """
    with contextlib.suppress(Exception):  # an error here must not replace the result
        changed = onnx.load(str(file))
        made = _choices_of(model)
        return _replaced(changed, made, model, inputs, agrees) if made else []
    return []


def _replaced(
    model: onnx.ModelProto,
    made: Sequence[_Choice],
    subject: Model,
    inputs: Dict[str, np.ndarray],
    agrees: Callable[[Dict[str, np.ndarray]], bool],
) -> List[Tie]:
    ties: List[Tie] = []
    for _ in range(_MOST_CHOICES):
        nodes = [node for node in model.graph.node if node.op_type in (_TOP_K, *_ARGUMENTS)]
        values = _run(model, nodes, subject, inputs)
        found = next(_other_choices(nodes, values, made), None)
        if found is None:
            outputs = {name: values[name] for name in subject.output_names}
            return ties if ties and agrees(outputs) else []
        node, choice = found
        ties.append(Tie(node.op_type, origin_of(node) or f"node {node.name}"))
        _write(model, node, choice, values)
    return []


def _other_choices(
    nodes: Sequence[onnx.NodeProto],
    values: Dict[str, np.ndarray],
    made: Sequence[_Choice],
) -> Iterator[Tuple[onnx.NodeProto, np.ndarray]]:
    """Yield each node that chose other elements than PyTorch did, with PyTorch's indices."""
    for node in nodes:
        own = _choice_of(node, values)
        if own is None:
            continue
        for one in made:
            if _as_good(own, one) and not np.array_equal(own.indices, one.indices):
                yield node, one.indices
                break


def _as_good(own: _Choice, other: _Choice) -> bool:
    """Return whether ``other`` chose from the same values, and equally well by ``own``'s values."""
    if own.largest != other.largest or own.values.shape != other.values.shape:
        return False
    if own.indices.shape != other.indices.shape:
        return False
    left, right = own.values.astype(np.float64), other.values.astype(np.float64)
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return False
    apart = np.where(left == right, 0.0, left - right)  # equal infinities
    apart = np.abs(np.where(np.isnan(apart), 0.0, apart))
    atol, rtol = _SAME.bounds(right)
    if not np.all(apart <= atol + rtol * np.abs(np.where(np.isfinite(right), right, 0.0))):
        return False
    ordered = np.sort(other.indices, axis=-1)
    if np.any(ordered[..., 1:] == ordered[..., :-1]):  # an element must not be chosen twice
        return False
    # If the values differ by ``d``, two elements can swap if their gap is at most 2 d.
    room = 2 * float(apart.max()) if apart.size else 0.0
    mine = np.take_along_axis(left, own.indices, axis=-1)
    theirs = np.take_along_axis(left, other.indices, axis=-1)
    return bool(np.all((mine == theirs) | (np.abs(mine - theirs) <= room)))


def _choice_of(node: onnx.NodeProto, values: Dict[str, np.ndarray]) -> Optional[_Choice]:
    """Return the indices that the node chose, or None if they are not known."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    given, chosen = values.get(node.input[0]), values.get(_indices_of(node))
    if given is None or chosen is None or given.ndim == 0:
        return None
    is_top_k = node.op_type == _TOP_K
    axis = int(attributes.get("axis", -1 if is_top_k else 0)) % given.ndim
    if not is_top_k and not attributes.get("keepdims", 1):
        chosen = np.expand_dims(chosen, axis)
    largest = bool(attributes.get("largest", 1)) if is_top_k else node.op_type == "ArgMax"
    return _Choice(np.moveaxis(given, axis, -1), np.moveaxis(chosen, axis, -1), largest)


def _indices_of(node: onnx.NodeProto) -> str:
    return str(node.output[1 if node.op_type == _TOP_K else 0])


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    subject: Model,
    inputs: Dict[str, np.ndarray],
) -> Dict[str, np.ndarray]:
    """Return the outputs of the model, and the inputs and outputs of ``nodes``, by name."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    known = {value.name for value in [*asked.graph.output, *asked.graph.input]}
    constants = {tensor.name for tensor in asked.graph.initializer}
    names = [name for node in nodes for name in (node.input[0], *node.output) if name]
    names = [name for name in dict.fromkeys(names) if name not in known | constants]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "choices.onnx")
        onnx.save(asked, str(file))
        found = run_onnx(file, inputs, [*subject.output_names, *names])
    return {**inputs, **found}


def _write(
    model: onnx.ModelProto, node: onnx.NodeProto, indices: np.ndarray, values: Dict[str, np.ndarray]
) -> None:
    """Replace the node by constants: these indices, and the values at them."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    given = values[node.input[0]]
    is_top_k = node.op_type == _TOP_K
    axis = int(attributes.get("axis", -1 if is_top_k else 0)) % given.ndim
    placed = np.moveaxis(indices, -1, axis)
    if is_top_k and node.output[0]:
        chosen = np.take_along_axis(given, placed, axis)
        model.graph.initializer.append(numpy_helper.from_array(chosen, node.output[0]))
    if not is_top_k and not attributes.get("keepdims", 1):
        placed = np.squeeze(placed, axis)
    name = _indices_of(node)
    if name:
        placed = np.ascontiguousarray(placed.astype(np.int64))
        model.graph.initializer.append(numpy_helper.from_array(placed, name))
    model.graph.node.remove(node)


def _choices_of(model: Model) -> List[_Choice]:
    """Return PyTorch's choices in a run of the model; empty if this torch cannot record them."""
    try:
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        return []
    made: List[_Choice] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            made.extend(_recorded(func, args, kwargs or {}, result))
            return result

    with buffers_kept(model.to_export), Recorder():
        run_once(model.to_export, model.inputs)
    return made


def _recorded(func: Any, args: Any, kwargs: Any, result: Any) -> Iterator[_Choice]:
    op = func.name().replace("aten::", "")
    arguments = {one.name: one.default_value for one in func._schema.arguments}
    arguments.update(zip([one.name for one in func._schema.arguments], args))
    arguments.update(kwargs)
    if op.split(".")[0] not in ("topk", "sort", "argmax", "argmin", "max", "min"):
        return
    if op.split(".")[0] in ("max", "min") and "dim" not in arguments:
        return
    given = arguments["self"].detach()
    dim = arguments.get("dim")
    if given.dim() == 0 or given.dtype == torch.bfloat16:
        return
    indices = result if isinstance(result, torch.Tensor) else result[1]
    if dim is None:
        given, indices, dim = given.reshape(-1), indices.reshape(1), 0
    elif op.startswith(("argmax", "argmin", "max", "min")) and not arguments.get("keepdim"):
        indices = indices.unsqueeze(dim)
    largest = arguments.get("largest", arguments.get("descending", "max" in op))
    yield _Choice(
        np.moveaxis(given.numpy(), dim, -1).copy(),
        np.moveaxis(indices.numpy(), dim, -1).copy(),
        bool(largest),
    )
