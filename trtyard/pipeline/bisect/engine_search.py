"""Find the first value in which an engine differs from ONNX Runtime, with few marks at a time.

A mark changes how TensorRT fuses layers, so not all values can be looked at together. Each round
looks at a few values, spread over the nodes before the first wrong one. A right value clears the
nodes before it. If the outputs are right with the marks, then the marks hide the fault, and fewer
are set.
"""

from collections import Counter
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import onnx

from trtyard.core.errors import ConversionError
from trtyard.pipeline.bisect.differences import Difference, difference
from trtyard.pipeline.bisect.looking import Arrays, Look, Seen
from trtyard.pipeline.bisect.matching import COMPARABLE, types_in
from trtyard.pipeline.bisect.pieces import Graph, Region
from trtyard.pipeline.bisect.search import Evidence
from trtyard.pipeline.tensorrt.layers import EngineLayer

_MOST_MARKS = 8
_MOST_BYTES = 256 << 20  # of the values of one round
_MOST_BUILDS = 40
_MOST_HIDING = 3  # values that hide the fault, each alone
_JUMP = 10  # a wrong node's error is so many times that of its inputs

Layers = Optional[List[EngineLayer]]


class FirstWrong(NamedTuple):
    """The first wrong value."""

    name: str
    error: Difference
    region: Region  # the nodes that make it from values that were compared
    evidence: Evidence  # ONNX Runtime's inputs and value, and the engine's value
    inputs_error: float  # the largest relative difference of its inputs
    growth: List[Tuple[str, float]]  # wrong values from there to the outputs
    persists: bool  # it is wrong too if it alone is marked


class Searched(NamedTuple):
    """The result of a search."""

    graph: Graph
    compared: int
    builds: int
    first: Optional[FirstWrong] = None
    hidden_by: Sequence[str] = ()  # each of them marked alone makes the outputs right
    layers: Layers = None  # of the engine without marks
    marked_layers: Layers = None  # of the engine with the fewest marks
    is_complete: bool = True  # the search did not stop early
    is_gradual: bool = False  # the errors of the first value's inputs are nearly as large


def find_first_wrong(
    file: onnx.ModelProto, inputs: Arrays, look: Look, is_half: bool = False
) -> Searched:
    """Return the first value of the file that is wrong though its inputs are right.

    Args:
        file: what both runtimes run.
        inputs: of the run, by name.
        look: runs the other runtime.
        is_half: its values are computed in 16 bits.

    Raises:
        ConversionError: one of the runtimes cannot run the file at all.
    """
    return _Search(file, inputs, look, is_half).run()


class _Search:
    def __init__(self, file: onnx.ModelProto, inputs: Arrays, look: Look, is_half: bool) -> None:
        self._graph = graph = Graph(file)
        self._inputs = {name: inputs[name] for name in graph.inputs if name in inputs}
        self._look = look
        self._is_half = is_half
        self._nodes = [
            index for index, node in enumerate(graph.nodes) if node.op_type != "Constant"
        ]
        types = types_in(file)
        self._sizes = {
            name: _bytes(*types[name])
            for index in self._nodes
            for name in graph.nodes[index].output
            if name and types[name][1] in COMPARABLE
        }
        self._known: Dict[str, Difference] = {}
        self._unseen: Set[str] = set()  # the engine does not give them
        self._hiding: List[str] = []
        self._hiding_layers: Layers = None
        self._marks = _MOST_MARKS
        self._builds = 0
        self._least = 0.0  # smaller relative errors are rounding
        self._right_outputs: Arrays = {}
        self._wrong_outputs: List[str] = []

    def run(self) -> Searched:
        graph = self._graph
        plain = self._look(())
        outputs = [name for name in graph.outputs if name in self._sizes and name in plain.values]
        self._right_outputs = self._right(outputs)
        self._judge(plain, outputs, self._right_outputs)
        self._wrong_outputs = [name for name in outputs if self._is_wrong(name)]
        if not self._wrong_outputs:
            return Searched(graph, len(self._known), 0, layers=plain.layers)
        while True:
            target, first = self._first_wrong()
            is_gradual = first is not None and first.error.relative < _JUMP * first.inputs_error
            if first is None or not is_gradual or self._builds >= _MOST_BUILDS:
                break
            # Rounding has added up to here. The fault is behind it, if there is one.
            before, self._least = self._least, _JUMP * first.error.relative
            if not any(map(self._is_wrong, self._wrong_outputs)):
                self._least = before
                break
        persists, marked = self._alone(target)
        if first is not None:
            first = first._replace(persists=persists, growth=self._growth(target))
        return Searched(
            graph,
            len(self._known),
            self._builds,
            first,
            self._hiding,
            plain.layers,
            self._hiding_layers if self._hiding else marked,
            self._builds < _MOST_BUILDS,
            is_gradual,
        )

    def _first_wrong(self) -> Tuple[str, Optional[FirstWrong]]:
        """Return the first wrong value; None if nothing more is known of it."""
        target = self._earliest([name for name in self._known if self._is_wrong(name)])
        while True:
            target = self._narrowed(target)
            first, wrong_input = self._confirmed(target)
            if wrong_input is None:
                return target, first
            target = wrong_input

    def _narrowed(self, target: str) -> str:
        """Return the earliest wrong value that rounds of a few marks find before ``target``."""
        while self._builds < _MOST_BUILDS and len(self._hiding) < _MOST_HIDING:
            candidates = self._candidates(target)
            if not candidates:
                break
            marks = self._spread(candidates)
            seen = self._seen(marks)
            if seen is None or self._is_hidden(seen):
                self._take_back(marks, seen)
                continue
            self._judge(seen, marks, self._right(marks))
            wrong = [name for name in marks if self._is_wrong(name)]
            if wrong:
                target = self._earliest(wrong)
        return target

    def _confirmed(self, target: str) -> Tuple[Optional[FirstWrong], Optional[str]]:
        """Look at ``target`` and its inputs together; return it, or an input that is wrong."""
        graph = self._graph
        while True:
            known = set(self._sizes) - self._unseen - set(self._hiding) - {target}
            region = graph.region(target, known)
            before = [name for name in region.inputs if name in self._sizes]
            seen = self._seen([*before, target])
            if seen is None or self._is_hidden(seen):
                seen = self._look(()) if target in graph.outputs else self._seen([target])
                before = []
            right = self._right([*region.inputs, target])
            if seen is None or target not in seen.values:
                return None, None
            self._judge(seen, before, right)
            if self._unseen.intersection(before):
                continue
            wrong = [name for name in before if self._is_wrong(name)]
            if wrong:
                return None, self._earliest(wrong)
            own = seen.values[target]
            evidence = Evidence({name: right[name] for name in region.inputs}, right[target], own)
            errors = [self._known[name].relative for name in before]
            found = difference(right[target], own, self._is_half)
            if found.agrees:  # these marks hide it, those of an earlier round did not
                found = self._known[target]
            return FirstWrong(
                target, found, region, evidence, max(errors, default=0.0), [], True
            ), None

    def _alone(self, target: str) -> Tuple[bool, Layers]:
        """Tell whether ``target`` is wrong too if it alone is marked, and return the layers."""
        if target in self._graph.outputs:
            return True, None
        seen = self._seen([target])
        if seen is None or target not in seen.values:
            return False, None
        own = difference(self._right([target])[target], seen.values[target], self._is_half)
        return self._counts(own) and not self._is_hidden(seen), seen.layers

    def _candidates(self, target: str) -> List[str]:
        """Return the values before ``target`` that no right value clears, in order."""
        graph = self._graph
        before = graph.before(target)
        cleared: Set[int] = set()
        for name in self._known:
            if not self._is_wrong(name) and graph.makers[name] in before:
                cleared |= graph.before(name)
        passed = {*self._known, *self._unseen, *self._hiding, target}
        return [
            name
            for name in self._sizes
            if graph.makers[name] in before - cleared and name not in passed
        ]

    def _spread(self, candidates: Sequence[str]) -> List[str]:
        """Return some of the values at equal distances; together they fit into memory."""
        count = min(self._marks, len(candidates))
        places = [(index + 1) * len(candidates) // (count + 1) for index in range(count)]
        chosen: List[str] = []
        size = 0
        for name in (candidates[place] for place in places):
            size += self._sizes[name]
            if chosen and size > _MOST_BYTES:
                break
            chosen.append(name)
        return chosen

    def _seen(self, names: Sequence[str]) -> Optional[Seen]:
        """Return what a run with these marks gives; None if there is no engine with them."""
        marks = [name for name in names if name not in self._graph.outputs]
        self._builds += bool(marks)
        try:
            return self._look(marks)
        except ConversionError:
            return None

    def _take_back(self, marks: Sequence[str], seen: Optional[Seen]) -> None:
        """Set fewer marks from now on; remember a single one that is refused or hides the fault."""
        if len(marks) > 1:
            self._marks = len(marks) // 2
        elif seen is None:
            self._unseen.update(marks)
        else:
            self._hiding += marks
            self._hiding_layers = seen.layers

    def _is_hidden(self, seen: Seen) -> bool:
        """Tell whether the outputs are right in this run, though they are wrong without marks."""
        return not any(
            self._counts(difference(self._right_outputs[name], seen.values[name], self._is_half))
            for name in self._wrong_outputs
        )

    def _judge(self, seen: Seen, names: Sequence[str], right: Arrays) -> None:
        for name in names:
            if name in seen.values:
                self._known[name] = difference(right[name], seen.values[name], self._is_half)
            else:
                self._unseen.add(name)

    def _right(self, names: Sequence[str]) -> Arrays:
        """Return ONNX Runtime's values."""
        made = [name for name in names if name in self._graph.makers]
        found = self._graph.run(self._nodes, self._inputs, made)
        found.update({name: self._inputs[name] for name in names if name in self._inputs})
        return found

    def _is_wrong(self, name: str) -> bool:
        return name in self._known and self._counts(self._known[name])

    def _counts(self, found: Difference) -> bool:
        return not found.agrees and found.relative > self._least

    def _earliest(self, names: Sequence[str]) -> str:
        return min(names, key=lambda name: self._graph.makers[name])

    def _growth(self, target: str) -> List[Tuple[str, float]]:
        """Return the wrong values that depend on ``target``, in order, with their errors."""
        graph = self._graph
        maker = graph.makers[target]
        wrong = [name for name in self._known if self._is_wrong(name)]
        after = [name for name in wrong if name == target or maker in graph.before(name)]
        after.sort(key=lambda name: graph.makers[name])
        return [(name, self._known[name].relative) for name in after]


def changed_layers(before: Layers, after: Layers) -> Tuple[List[EngineLayer], List[EngineLayer]]:
    """Return the layers that the first engine has alone, and those that the second has alone."""
    one, other = Counter(before or ()), Counter(after or ())
    if before is None or after is None:
        return [], []
    return list((one - other).elements()), list((other - one).elements())


def _bytes(shape: Optional[Sequence[Optional[int]]], dtype: str) -> int:
    size = np.dtype(dtype).itemsize
    for each in shape or ():
        size *= each or 1
    return int(size)
