"""What each layer of a file in reduced precision costs: alone, on the values of the fp32 file."""

from typing import Dict, List, Mapping, NamedTuple, Set, Tuple

import numpy as np
import onnx

from trtyard.pipeline.bisect.matching import types_in
from trtyard.pipeline.bisect.pieces import Arrays, Graph, Region

_SEGMENT_BYTES = 192 << 20
_PIECE = 1 << 20


class LayerError(NamedTuple):
    """One node in reduced precision, given the fp32 file's values."""

    node: str
    place: int  # in the fp32 file
    error: float  # Euclidean norm of the difference, as a share of the reference's
    overflows: int  # values that are NaN or infinite in reduced precision alone


def layer_errors(
    fp32: onnx.ModelProto, reduced: onnx.ModelProto, inputs: Mapping[str, np.ndarray]
) -> List[LayerError]:
    """Return the error of every node that computes another value, the largest first.

    A node with an input that the reduced precision cannot hold is left out: the node that makes
    this input has the error.

    Args:
        fp32: with a name for each node.
        reduced: the same nodes, by name, in reduced precision, and others between them.
        inputs: of both.

    Raises:
        ConversionError: ONNX Runtime cannot run a part of one of them.
    """
    return _Layers(Graph(fp32), Graph(reduced), inputs).errors()


class _Layers:
    def __init__(self, fp32: Graph, reduced: Graph, inputs: Mapping[str, np.ndarray]) -> None:
        self._fp32, self._reduced = fp32, reduced
        self._types = types_in(reduced.model)
        self._shapes = types_in(fp32.model)
        named = {node.name: node for node in reduced.nodes}
        # The reduced file's name of each value: outputs of the graph have another one.
        self._other: Dict[str, str] = {}
        for node in fp32.nodes:
            twin = named.get(node.name)
            if twin is not None and node.name and len(twin.output) == len(node.output):
                pairs = zip(node.output, twin.output)
                self._other.update((own, other) for own, other in pairs if own and other)
        self._values: Arrays = dict(inputs)
        known = {other: own for own, other in self._other.items()}
        self._known: Dict[str, str] = {**known, **{name: name for name in inputs}}
        self._regions: Dict[str, Region] = {
            own: reduced.region(other, set(known) - {other})
            for own, other in self._other.items()
            if self._shapes[own][1] == "float32"
        }
        self._spoilt: Set[str] = set()

    def errors(self) -> List[LayerError]:
        """Run both files, one segment after the other."""
        parts = self._parts()
        until: Dict[str, int] = {}
        for number, part in enumerate(parts):
            for index in part:
                for name in self._fp32.reads(index):
                    until[name] = number
                for own in self._fp32.nodes[index].output:
                    for name in self._regions[own].inputs if own in self._regions else ():
                        until[self._known[name]] = number
        found: List[LayerError] = []
        for number, part in enumerate(parts):
            made = [name for index in part for name in self._fp32.nodes[index].output if name]
            own = [name for name in made if name in self._regions]
            later = [name for name in made if until.get(name, -1) >= number]
            reads = {name for index in part for name in self._fp32.reads(index)}
            given = {name: self._values[name] for name in reads if name in self._values}
            self._values.update(self._fp32.run(part, given, list(dict.fromkeys([*own, *later]))))
            found += self._compared(own)
            for name in [one for one in self._values if until.get(one, -1) <= number]:
                del self._values[name]
        return sorted(found, key=lambda one: (one.overflows > 0, one.error), reverse=True)

    def _parts(self) -> List[List[int]]:
        parts: List[List[int]] = [[]]
        size = 0
        for index, node in enumerate(self._fp32.nodes):
            if node.op_type == "Constant":
                continue
            more = sum(_bytes(self._shapes[name][0]) for name in node.output if name)
            if parts[-1] and size + more > _SEGMENT_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(index)
            size += more
        return parts

    def _compared(self, own: List[str]) -> List[LayerError]:
        regions = {name: self._regions[name] for name in own}
        nodes = sorted({index for one in regions.values() for index in one.nodes})
        given: Arrays = {}
        for name in {name for one in regions.values() for name in one.inputs}:
            given[name] = self._as_fed(name)
        outputs = [self._other[name] for name in own]
        values = self._reduced.run(nodes, given, outputs)
        found = []
        for name in own:
            if self._spoilt.intersection(regions[name].inputs):
                continue
            error, overflows = _error(self._values[name], values[self._other[name]])
            if error or overflows:
                place = self._fp32.makers[name]
                found.append(LayerError(self._fp32.nodes[place].name, place, error, overflows))
        return found

    def _as_fed(self, name: str) -> np.ndarray:
        """Return the fp32 value in the type that the reduced file has it in."""
        value = self._values[self._known[name]]
        dtype = self._types[name][1] if name in self._types else str(value.dtype)
        if dtype == str(value.dtype) or value.dtype.kind != "f":
            return value
        with np.errstate(over="ignore"):
            cast = value.astype(dtype)
        if (np.isfinite(value) & ~np.isfinite(cast)).any():
            self._spoilt.add(name)
        return cast


def _bytes(shape: object) -> int:
    sizes = shape if isinstance(shape, tuple) else ()
    elements = 4
    for size in sizes:
        elements *= size or 1
    return elements


def _error(reference: np.ndarray, candidate: np.ndarray) -> Tuple[float, int]:
    left, right = reference.reshape(-1), candidate.reshape(-1)
    if left.shape != right.shape:
        return float("inf"), 0
    squares = total = 0.0
    overflows = 0
    for start in range(0, left.size, _PIECE):
        one = left[start : start + _PIECE].astype(np.float64)
        other = right[start : start + _PIECE].astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(other)
        overflows += int(np.count_nonzero(np.isfinite(one) & ~np.isfinite(other)))
        squares += float(np.square(one[finite] - other[finite]).sum())
        total += float(np.square(one[finite]).sum())
    return float(np.sqrt(squares / total)) if total else float(np.sqrt(squares)), overflows
