"""Which value of an ONNX file is which value of PyTorch, by the exporter's own metadata.

Both exporters note the line of Python and the module that a node comes from. The recording has the
same of each operator. Within a line, values are paired in order, by shape and type, so that as many
modules and operators as possible agree.
"""

import ast
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import onnx

from trtyard.core.errors import ConversionError
from trtyard.pipeline.bisect.recording import Event, Place, place_of
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.symptoms import used_by
from trtyard.pipeline.onnx_model.versions import session

Taken = Tuple[int, int]  # an event, and which of its outputs
Shape = Optional[Tuple[Optional[int], ...]]

_NODE_OF_FX = "pkg.torch.onnx.fx_node"
_SCOPES = "pkg.torch.onnx.name_scopes"
_INTERMEDIATE = re.compile(r"val_\d+")  # the dynamo exporter's names within one fx node
_ORIGIN = re.compile(r"^(.*\.py):(\d+)")
_MOST_PAIRS = 4_000_000  # of one line; beyond that, matching would take minutes

_SAME_LINE, _SAME_MODULE, _SAME_OP = 10, 6, 4
# Operators by ONNX op, where the names do not tell.
_OPERATORS: Mapping[str, Tuple[str, ...]] = {
    "Conv": ("convolution",),
    "ConvTranspose": ("convolution",),
    "Gemm": ("addmm", "mm", "linear"),
    "MatMul": ("mm", "bmm", "addmm", "baddbmm", "matmul"),
    "Clip": ("clamp", "hardtanh", "clamp_min", "clamp_max", "relu6"),
    "ReduceMean": ("mean",),
    "ReduceSum": ("sum",),
    "ReduceMax": ("max", "amax"),
    "ReduceMin": ("min", "amin"),
    "BatchNormalization": ("native_batch_norm", "native_batch_norm_legit_no_training"),
    "LayerNormalization": ("native_layer_norm",),
    "Transpose": ("permute", "transpose", "t"),
    "Concat": ("cat", "stack"),
    "Gather": ("select", "index_select", "embedding", "index", "gather"),
    "GatherND": ("index",),
    "Reshape": ("view", "reshape", "unsafe_view"),
    "ScatterND": ("copy", "index_put", "fill"),
    "ScatterElements": ("copy", "scatter", "fill"),
    "Expand": ("expand", "repeat"),
    "Cast": ("to_copy",),
    "Resize": ("upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d"),
    "MaxPool": ("max_pool2d_with_indices", "max_pool2d"),
    "AveragePool": ("avg_pool2d",),
    "GlobalAveragePool": ("mean", "adaptive_avg_pool2d"),
    "HardSwish": ("hardswish",),
}
# What operators are when they run, by the dynamo exporter's names.
_PARTS: Mapping[str, Tuple[str, ...]] = {
    "conv1d": ("convolution",),
    "conv2d": ("convolution",),
    "conv3d": ("convolution",),
    "conv_transpose2d": ("convolution",),
    "linear": ("addmm", "mm"),
    "matmul": ("mm", "bmm"),
    "native_batch_norm_legit_no_training": ("native_batch_norm",),
    "batch_norm": ("native_batch_norm",),
    "layer_norm": ("native_layer_norm",),
    "slice_scatter": ("copy", "fill"),
    "select_scatter": ("copy", "fill"),
    "max_pool2d": ("max_pool2d_with_indices",),
    "transpose": ("t",),
    "permute": ("t", "transpose"),
    "reshape": ("view", "unsafe_view"),
    "adaptive_avg_pool2d": ("mean",),
    "to": ("to_copy",),
}
_TARGET = re.compile(r"target=torch\.ops\.\w+\.(\w+)")
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({each})": each for each in ("float16", "bfloat16", "bool", "int64", "int32")},
    **{f"tensor({each})": each for each in ("int16", "int8", "uint8")},
}
COMPARABLE = (  # types that numpy has too
    *("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8"),
)
_FUSED_WITH_NORM = ("Conv", "ConvTranspose", "Gemm")
_NORM = "batch_norm"


class Value(NamedTuple):
    """A tensor that a node of the file makes."""

    name: str
    node: int  # its index in the graph
    op: str
    place: Optional[Place]
    module: str  # empty if it is not known
    shape: Shape
    dtype: str
    is_inner: bool  # only nodes of the same line read it
    operators: Tuple[str, ...]  # of PyTorch that it may come from


def match(model: onnx.ModelProto, events: Sequence[Event]) -> Dict[str, Taken]:
    """Return the outputs of events by the names of the file's values that should equal them.

    Args:
        model: the file.
        events: the recording of the same model; the last event's outputs are the file's outputs.
    """
    values = values_of(model)
    found: Dict[str, Taken] = {}
    groups: Dict[Place, List[Value]] = {}
    for value in values:
        if value.place is not None and not _INTERMEDIATE.fullmatch(value.name):
            groups.setdefault(value.place, []).append(value)
    made: Dict[Place, List[Taken]] = {}
    left = _read_elsewhere(events)
    for number, event in enumerate(events):
        # The dynamo exporter notes lines of forward() alone, not those of functions that it calls.
        place = next((each for each in event.places if each in groups), None)
        if place is not None:
            made.setdefault(place, []).extend((number, index) for index in range(len(event.made)))
    for place, group in groups.items():
        found.update(_aligned(group, made.get(place, []), events, left))
    _move_to_norms(found, values, events)
    last = len(events) - 1
    for index, output in enumerate(model.graph.output):
        if index < len(events[last].made):
            found[output.name] = (last, index)
    return found


def values_of(model: onnx.ModelProto) -> List[Value]:
    """Return the values that the graph's nodes make, in order."""
    known = types_in(model)
    places = [place_in(node) for node in model.graph.node]
    read_at: Dict[str, Set[Optional[Place]]] = {each.name: {None} for each in model.graph.output}
    for node, place in zip(model.graph.node, places):
        for name in used_by(node):
            read_at.setdefault(name, set()).add(place)
    found = []
    for number, (node, place) in enumerate(zip(model.graph.node, places)):
        if node.op_type == "Constant":
            continue
        module, names = module_of(node), operators_of(node)
        for name in node.output:
            if name:
                shape, dtype = known[name]
                is_inner = read_at.get(name, set()) <= {place}
                found.append(
                    Value(name, number, node.op_type, place, module, shape, dtype, is_inner, names)
                )
    return found


def place_in(node: onnx.NodeProto) -> Optional[Place]:
    """Return the line that a node comes from."""
    line = _ORIGIN.match(origin_of(node) or "")
    return None if line is None else place_of(*line.groups())


def module_of(node: onnx.NodeProto) -> str:
    """Return the path of the module that a node comes from; empty if it is not known."""
    for entry in getattr(node, "metadata_props", ()):
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2]) if len(scopes) > 1 else ""
    path: List[str] = []
    for part in node.name.strip("/").split("/")[:-1]:
        # /layer1/layer1.0/conv1/Conv: the second one repeats the first.
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)


def types_in(model: onnx.ModelProto) -> Dict[str, Tuple[Shape, str]]:
    """Return shape and type of every value, as ONNX Runtime infers them.

    onnx's own inference stops at custom ops.

    Raises:
        ConversionError: ONNX Runtime refuses the file.
    """
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    known = {each.name for each in asked.graph.output}
    names = [name for node in model.graph.node for name in node.output if name not in known]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name)
    try:
        ready = session(asked.SerializeToString(), is_fused=False)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ConversionError(f"ONNX Runtime cannot load the file: {str(error).strip()}") from error
    return {
        each.name: (
            tuple(size if isinstance(size, int) else None for size in each.shape),
            _TYPES.get(each.type, each.type),
        )
        for each in ready.get_outputs()
    }


def operators_of(node: onnx.NodeProto) -> Tuple[str, ...]:
    """Return the names, as ``Event.name``, of the operators that a node may come from."""
    for entry in getattr(node, "metadata_props", ()):
        target = _TARGET.search(entry.value) if entry.key == _NODE_OF_FX else None
        if target is not None:
            name = target.group(1).strip("_")
            return (name, *_PARTS.get(name, ()))
    return (node.op_type.lower(), *_OPERATORS.get(node.op_type, ()))


def _fits(value: Value, shape: Tuple[int, ...], dtype: str) -> bool:
    if value.dtype != dtype or dtype not in COMPARABLE:
        return False
    if value.shape is None:
        return True
    return len(value.shape) == len(shape) and all(
        one is None or one == other for one, other in zip(value.shape, shape)
    )


def _read_elsewhere(events: Sequence[Event]) -> Set[int]:
    """Return the events whose results operators of other lines read."""
    return {
        need
        for event in events
        for need in event.needs
        if event.places[:1] != events[need].places[:1]
    }


def _score(value: Value, taken: Taken, events: Sequence[Event], left: Set[int]) -> int:
    event = events[taken[0]]
    made = event.made[taken[1]]
    if not _fits(value, made.shape, made.dtype):
        return 0
    score = _SAME_LINE
    if value.module == event.module or event.module.endswith(f".{value.module}"):
        score += _SAME_MODULE
    if event.name in value.operators or value.operators[0] in event.name.replace("_", ""):
        # An operator may become several nodes; what other lines read is the last one's.
        return score + _SAME_OP if not (value.is_inner and taken[0] in left) else _SAME_LINE
    return 0 if value.is_inner else score


def _aligned(
    group: Sequence[Value], made: Sequence[Taken], events: Sequence[Event], left: Set[int]
) -> Dict[str, Taken]:
    """Return the best pairs that keep the order; of equally good ones the latest."""
    if not made or len(group) * len(made) > _MOST_PAIRS:
        return {}
    scores = [[_score(value, taken, events, left) for taken in made] for value in group]
    best = [[0] * (len(made) + 1) for _ in range(len(group) + 1)]
    for row, line in enumerate(scores, 1):
        for column, score in enumerate(line, 1):
            paired = best[row - 1][column - 1] + score if score else 0
            best[row][column] = max(best[row - 1][column], best[row][column - 1], paired)
    found: Dict[str, Taken] = {}
    row, column = len(group), len(made)
    while row and column:
        score = scores[row - 1][column - 1]
        if score and best[row][column] == best[row - 1][column - 1] + score:
            found[group[row - 1].name] = made[column - 1]
            row, column = row - 1, column - 1
        elif best[row][column] == best[row - 1][column]:
            row -= 1
        else:
            column -= 1
    return found


def _move_to_norms(
    found: Dict[str, Taken], values: Sequence[Value], events: Sequence[Event]
) -> None:
    """Move nodes that hold the batch norm behind them to the norm's output."""
    places = {((value.place,), value.module) for value in values}
    norms: Dict[int, int] = {}
    for number, event in enumerate(events):
        if _NORM in event.name and (event.places[:1], event.module) not in places:
            norms.update(dict.fromkeys(event.needs, number))
    for value in values:
        taken = found.get(value.name)
        if value.op in _FUSED_WITH_NORM and taken is not None and taken[0] in norms:
            found[value.name] = (norms[taken[0]], 0)


def ancestors(events: Sequence[Event], event: int, stop: Set[int]) -> Set[int]:
    """Return ``event`` and what it depends on, up to the events in ``stop`` and without them."""
    found: Set[int] = set()
    waiting = [event]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += [need for need in events[number].needs if need not in stop]
    return found
