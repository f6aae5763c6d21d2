"""Why a node of the file gives another value than PyTorch, as far as it can be told."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.bisect.differences import difference
from trtyard.pipeline.bisect.matching import Taken, ancestors, operators_of, place_in
from trtyard.pipeline.bisect.pieces import Arrays, Graph, Region, run_model
from trtyard.pipeline.bisect.recording import ITEM, Event, Place
from trtyard.pipeline.bisect.search import Evidence
from trtyard.pipeline.export.quiet import output_kept_away

WRITE_LOST = "in-place-write-lost"
CLAMP_LOST = "boxes-outside"
FROZEN = "value-frozen"
OPERATOR_LOST = "operator-lost"
ATTRIBUTE = "attribute-differs"
INTERPOLATION = "interpolation-differs"
HALF_PIXEL = "rois-half-a-pixel-off"
TIE = "choice-of-a-tie"
OVERFLOW = "fp16-overflow"
ROUNDED = "rounded-toward-zero"
UNKNOWN = ""

# Operators that some exporters write as nodes with another meaning.
_WRONG_FORMS: Mapping[str, Tuple[str, str]] = {
    "index_put": ("repeated-indices", "the nodes keep one of the values of a repeated index"),
    "index_add": ("repeated-indices", "the nodes keep one of the values of a repeated index"),
    "index": ("negative-indices", "the nodes count a negative index from the wrong place"),
    "floor_divide": (ROUNDED, "the nodes round toward zero, PyTorch rounds down"),
    "rshift": (ROUNDED, "the nodes round toward zero, PyTorch rounds down"),
    "softplus": ("softplus-threshold", "the nodes have no threshold"),
    "avg_pool2d": ("average-pool-ceil", "the nodes divide the last window by another count"),
    "scatter_reduce": ("scatter-mean", "the nodes do not take the mean"),
}
# Operators that change no value: a file may leave them out.
_SILENT = (
    *("view", "unsafe_view", "reshape", "t", "transpose", "permute", "expand", "slice", "select"),
    *("detach", "clone", "alias", "to_copy", "contiguous", "empty", "empty_like", "as_strided"),
    *("squeeze", "unsqueeze", "unbind", "split", "chunk", "lift_fresh", "dropout", "scalar_tensor"),
    *("native_batch_norm", "native_batch_norm_legit_no_training", "new_zeros", "zeros", "ones"),
    *("arange", "full", "zeros_like", "ones_like", "full_like", "empty_strided", "resize"),
)
_MOST_SHOWN = 3  # values of a constant
_MOST_BYTES = 64 << 20  # of a node that is run with other attributes
_TEXTS: Mapping[Tuple[str, str], Sequence[str]] = {
    ("Resize", "mode"): ("nearest", "linear", "cubic"),
    ("Resize", "coordinate_transformation_mode"): (
        *("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
        *("half_pixel_symmetric", "tf_crop_and_resize"),
    ),
    ("Resize", "nearest_mode"): ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    ("RoiAlign", "coordinate_transformation_mode"): ("half_pixel", "output_half_pixel"),
    ("RoiAlign", "mode"): ("avg", "max"),
    ("GridSample", "mode"): ("linear", "nearest", "cubic", "bilinear", "bicubic"),
    ("GridSample", "padding_mode"): ("zeros", "border", "reflection"),
    ("Pad", "mode"): ("constant", "reflect", "edge", "wrap"),
    ("Gelu", "approximate"): ("none", "tanh"),
}
_INTERPOLATING = ("Resize", "GridSample")
_CHOOSING = ("TopK", "ArgMax", "ArgMin")
# Attributes that are tried with other values. ONNX Runtime divides by some others.
_SWITCHES = (
    *("keepdims", "largest", "sorted", "transA", "transB", "ceil_mode", "count_include_pad"),
    *("align_corners", "select_last_index", "exclude_outside", "exclusive", "reverse", "upper"),
)
_LISTS: Mapping[str, int] = {"pads": 0, "strides": 1, "dilations": 1, "output_padding": 0}
_MOST_IN_LIST = 4
_FLOATS = (0.0, 1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.01, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 6.0)
_MOST_TRIALS = 60


class Cause(NamedTuple):
    """What made the difference."""

    name: str  # of the known failure; UNKNOWN if none fits
    detail: str  # a sentence without its full stop
    origin: str = ""  # the line of the user's code that it is about, if not the node's own


class Suspect(NamedTuple):
    """A value of the file that is wrong though its inputs are right."""

    name: str
    taken: Taken
    region: Region
    evidence: Optional[Evidence]


def cause_of(
    suspect: Suspect,
    graph: Graph,
    events: Sequence[Event],
    matches: Mapping[str, Taken],
    outside: Mapping[Taken, np.ndarray],
    learned: Set[str],
) -> Cause:
    """Return the cause that fits best.

    Args:
        suspect: the wrong value.
        graph: the file.
        events: PyTorch's operators.
        matches: the event outputs by the names of the file's values.
        outside: PyTorch's tensors from outside, by event and (negative) number.
        learned: names of the module's parameters and buffers.
    """
    own = suspect.taken[0]
    between = ancestors(events, own, {taken[0] for taken in matches.values()} - {own})
    lost = _lost(suspect, graph, events, between)
    return (
        _frozen(suspect, graph, events, lost, outside, learned)
        or _lost_write(events, lost)
        or overflow(suspect.evidence, "the file")
        or tie(suspect, graph)
        or _attribute(suspect, graph)
        or _lost_operator(events, lost)
        or _wrong_form(suspect, events, between)
        or Cause(UNKNOWN, "the node computes another value from the same inputs")
    )


def _lost(suspect: Suspect, graph: Graph, events: Sequence[Event], between: Set[int]) -> List[int]:
    """Return the events behind the value that no node before it comes from."""
    operators: Dict[Optional[Place], Set[str]] = {}
    for index in graph.before(suspect.name):
        node = graph.nodes[index]
        operators.setdefault(place_in(node), set()).update(operators_of(node))
    return [
        number
        for number in sorted(between)
        if _is_lost(events[number], operators)
        and (events[number].writes or events[number].name not in _SILENT)
    ]


def _is_lost(event: Event, operators: Mapping[Optional[Place], Set[str]]) -> bool:
    """Tell whether no node comes from the event's line, as far as the file notes lines."""
    if not event.places or event.places[0] in operators:
        return False
    return all(event.name not in operators.get(place, ()) for place in event.places)


def _lost_write(events: Sequence[Event], lost: Sequence[int]) -> Optional[Cause]:
    for number in reversed(lost):
        event = events[number]
        if not event.writes:
            continue
        is_clamp = event.name.startswith("clamp")
        what = "clamp" if is_clamp else "assignment"
        return Cause(
            CLAMP_LOST if is_clamp else WRITE_LOST,
            f"PyTorch changes the tensor in place ({event.op.split('::')[-1]}), and no node of the "
            f"file comes from that line: the {what} is lost",
            event.origin,
        )
    return None


def _lost_operator(events: Sequence[Event], lost: Sequence[int]) -> Optional[Cause]:
    real = [number for number in lost if events[number].op != ITEM]
    if not real:
        return None
    event = events[real[-1]]
    return Cause(
        OPERATOR_LOST,
        f"PyTorch runs {event.op.split('::')[-1]}, and no node of the file comes from that line",
        event.origin,
    )


def _frozen(
    suspect: Suspect,
    graph: Graph,
    events: Sequence[Event],
    lost: Sequence[int],
    outside: Mapping[Taken, np.ndarray],
    learned: Set[str],
) -> Optional[Cause]:
    """Return the cause if the node reads a constant in place of a value that PyTorch computes."""
    constants = dict(_constants(suspect.region, graph, learned))
    if not constants:
        return None
    own = suspect.taken[0]
    items = [number for number in events[own].needs if events[number].op == ITEM]
    for number in items:
        right = events[number].numbers[0]
        for name, value in constants.items():
            if value.size == 1 and value.dtype.kind == "f" and not _near(value.item(), right):
                return _frozen_cause(name, value, f"{right:.6g}", events[number].origin)
    for index, _made in enumerate(events[own].outside):
        tensor = outside.get((own, -1 - index))
        for name, value in constants.items():
            if tensor is not None and value.shape == tensor.shape and not _same(value, tensor):
                return _frozen_cause(name, value, _shown(tensor), events[own].origin)
    for number in reversed(lost):
        event = events[number]
        if event.writes:
            return None
        for made in event.made:
            for name, value in constants.items():
                fits = value.shape == made.shape or (value.size == 1 and _is_one(made.shape))
                if fits and value.dtype.kind == "f" and event.op != ITEM:
                    return _frozen_cause(name, value, "computed", event.origin)
    return None


def _frozen_cause(name: str, value: np.ndarray, right: str, origin: str) -> Cause:
    how = "computes it" if right == "computed" else f"has {right}"
    return Cause(
        FROZEN,
        f"the file holds the constant {name} = {_shown(value)} where PyTorch {how}: it is frozen",
        origin,
    )


def _constants(region: Region, graph: Graph, learned: Set[str]) -> Iterator[Tuple[str, np.ndarray]]:
    """Yield the constants that the region reads, without the model's own weights."""
    for index in region.nodes:
        for name in sorted(graph.uses[index]):
            if name in learned or not graph.is_constant(name):
                continue
            value = constant_value(graph, name)
            if value is not None:
                yield name, value


def constant_value(graph: Graph, name: str) -> Optional[np.ndarray]:
    """Return the value of a constant of the file."""
    if name in graph.weights:
        return np.asarray(numpy_helper.to_array(graph.weights[name]))
    for attribute in graph.constants[name].attribute:
        if attribute.name == "value":
            return np.asarray(numpy_helper.to_array(attribute.t))
        if attribute.name == "value_float":
            return np.asarray(attribute.f, np.float32)
    return None


def overflow(evidence: Optional[Evidence], where: str) -> Optional[Cause]:
    """Return the cause if values are finite in the reference alone; ``where`` they are not."""
    if evidence is None or evidence.right.dtype.kind != "f":
        return None
    found = difference(evidence.right, evidence.own)
    if not found.overflows:
        return None
    largest = float(np.abs(evidence.right[np.isfinite(evidence.right)]).max())
    return Cause(
        OVERFLOW,
        f"{found.overflows:,} of {found.elements:,} values are NaN or infinite in {where} alone; "
        f"the largest right one is {largest:.6g}",
    )


def tie(suspect: Suspect, graph: Graph) -> Optional[Cause]:
    """Return the cause if a choosing node takes other elements that are equally good."""
    node = graph.nodes[graph.makers[suspect.name]]
    evidence = suspect.evidence
    if evidence is None or node.op_type not in _CHOOSING or evidence.right.dtype.kind != "i":
        return None
    given = evidence.inputs.get(node.input[0])
    if given is None or evidence.right.shape != evidence.own.shape:
        return None
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    axis = int(attributes.get("axis", -1 if node.op_type == "TopK" else 0))
    right, own = evidence.right.astype(np.int64), evidence.own.astype(np.int64)
    if right.ndim < given.ndim:
        right, own = np.expand_dims(right, axis), np.expand_dims(own, axis)
    if not np.array_equal(
        np.take_along_axis(given, right, axis), np.take_along_axis(given, own, axis)
    ):
        return None
    return Cause(TIE, "both choose equal values, at other positions")


def _attribute(suspect: Suspect, graph: Graph) -> Optional[Cause]:
    """Return the cause if the node gives PyTorch's value with another attribute or small input."""
    if suspect.evidence is None:
        return None
    found = other_attribute(suspect, graph, suspect.evidence.right)
    if found is None:
        return None
    kind = ATTRIBUTE
    if found.op == "RoiAlign" and found.is_text:
        kind = HALF_PIXEL
    elif found.op in _INTERPOLATING and found.is_text:
        kind = INTERPOLATION
    return Cause(
        kind,
        f"the attribute {found.name} of the node is {found.own}; with {found.other} it gives "
        "PyTorch's value",
    )


class OtherAttribute(NamedTuple):
    """An attribute with which a node gives another value."""

    op: str
    name: str
    own: str  # of the node, as shown
    other: str
    is_text: bool


def other_attribute(suspect: Suspect, graph: Graph, wanted: np.ndarray) -> Optional[OtherAttribute]:
    """Return the attribute with which the node gives ``wanted``; None if there is none."""
    evidence = suspect.evidence
    if evidence is None or len(suspect.region.nodes) != 1:
        return None
    size = sum(value.nbytes for value in evidence.inputs.values()) + wanted.nbytes
    if size > _MOST_BYTES:
        return None
    index = suspect.region.nodes[0]
    model = graph.part([index], evidence.inputs, [suspect.name])
    place = next(n for n, each in enumerate(model.graph.node) if each.op_type != "Constant")
    node = model.graph.node[place]
    for number, (name, value) in enumerate(_trials(node)):
        if number >= _MOST_TRIALS:
            return None
        was = next(
            (helper.get_attribute_value(one) for one in node.attribute if one.name == name), None
        )
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        _set(changed.graph.node[place], name, value)
        if _gives(changed, suspect.name, evidence.inputs, wanted):
            given = was.decode() if isinstance(was, bytes) else was
            shown = "not set" if was is None else _attribute_shown(given)
            is_text = isinstance(value, str)
            return OtherAttribute(node.op_type, name, shown, _attribute_shown(value), is_text)
    return None


def _wrong_form(suspect: Suspect, events: Sequence[Event], between: Set[int]) -> Optional[Cause]:
    """Return the cause if an exporter is known to write an operator as something else."""
    for number in sorted(between, reverse=True):
        operator = events[number].name
        if operator not in _WRONG_FORMS or suspect.evidence is None:
            continue
        name, meaning = _WRONG_FORMS[operator]
        right, own = suspect.evidence.right, suspect.evidence.own
        is_whole = right.shape == own.shape and bool(np.isin(own - right, (0, 1)).all())
        if name != ROUNDED or is_whole:
            origin = events[number].origin
            is_own = origin == events[suspect.taken[0]].origin
            return Cause(name, f"PyTorch runs {operator}; {meaning}", "" if is_own else origin)
    return None


def _gives(model: onnx.ModelProto, name: str, given: Arrays, wanted: np.ndarray) -> bool:
    try:
        with output_kept_away():
            found = run_model(model, given, [name])[name]
    except ConversionError:
        return False
    return difference(wanted, found).agrees


def _trials(node: onnx.NodeProto) -> Iterator[Tuple[str, Any]]:
    """Yield other values of the node's attributes, one attribute at a time."""
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for (op, name), texts in _TEXTS.items():
        if op == node.op_type:
            was = given.get(name, b"").decode()
            yield from ((name, each) for each in texts if each != was)
    for name, value in given.items():
        if isinstance(value, float):
            yield from ((name, each) for each in _FLOATS if each != value)
        elif name in ("axis", "batch_dims"):
            yield from ((name, each) for each in (-1, 0, 1, 2, 3) if each != value)
        elif name in _SWITCHES:
            yield name, 1 - int(value)
        elif name in _LISTS:
            yield from ((name, each) for each in _lists(value, _LISTS[name]))
    for name, default in _unset(node, given):
        yield name, default


def _unset(node: onnx.NodeProto, given: Mapping[str, Any]) -> Iterator[Tuple[str, Any]]:
    if node.op_type in ("AveragePool", "MaxPool"):
        if "ceil_mode" not in given:
            yield "ceil_mode", 1
        if node.op_type == "AveragePool" and "count_include_pad" not in given:
            yield "count_include_pad", 1


def _lists(value: List[int], least: int) -> Iterator[List[int]]:
    for number in range(least, _MOST_IN_LIST):
        if [number] * len(value) != value:
            yield [number] * len(value)
    if value[::-1] != value:
        yield value[::-1]


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    for each in list(node.attribute):
        if each.name == name:
            node.attribute.remove(each)
    node.attribute.append(helper.make_attribute(name, value))


def _attribute_shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _near(left: float, right: float) -> bool:
    return bool(np.isclose(left, right, rtol=1e-5, atol=1e-12))


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.allclose(left, right, rtol=1e-5, atol=1e-12, equal_nan=True))


def _is_one(shape: Tuple[int, ...]) -> bool:
    return all(size == 1 for size in shape)


def _shown(value: np.ndarray) -> str:
    if value.size == 1:
        return f"{float(value.reshape(-1)[0]):.6g}"
    first = ", ".join(f"{float(each):.6g}" for each in value.reshape(-1)[:_MOST_SHOWN])
    return f"[{first}{', ...' if value.size > _MOST_SHOWN else ''}]"


def learned_names(module: Any) -> Set[str]:
    """Return the names that the exporters give to the module's parameters and buffers."""
    named: Dict[str, Any] = dict(module.named_parameters())
    named.update(module.named_buffers())
    return set(named)
