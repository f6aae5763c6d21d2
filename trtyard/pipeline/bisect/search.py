"""Run PyTorch and the file side by side, and compare every value that both have.

Each value is compared twice. The node alone, given PyTorch's inputs, shows a fault of its own. The
whole file shows how the error grows. Both run in segments while PyTorch runs, so that only one
segment's values are in memory.
"""

from typing import Dict, List, Mapping, NamedTuple, Sequence, Set

import numpy as np
import torch

from trtyard.pipeline.bisect.differences import Difference, difference
from trtyard.pipeline.bisect.matching import Taken
from trtyard.pipeline.bisect.pieces import Arrays, Graph
from trtyard.pipeline.bisect.recording import Event, record
from trtyard.pipeline.models.model import Model

_SEGMENT_BYTES = 192 << 20  # of PyTorch's values
_MOST_KEPT = 8  # wrong nodes whose inputs are kept
_MOST_KEPT_BYTES = 512 << 20
_HALVES = ("float16", "bfloat16")


class Compared(NamedTuple):
    """One value of the file against PyTorch's."""

    name: str
    node: int
    alone: Difference  # the nodes that make it, given PyTorch's inputs
    whole: Difference  # in a run of the file


class Evidence(NamedTuple):
    """What a wrong node was given and what it gave."""

    inputs: Arrays
    right: np.ndarray
    own: np.ndarray


class Comparison(NamedTuple):
    """All values in the order of the file."""

    values: List[Compared]
    evidence: Dict[str, Evidence]  # of the first wrong ones


class Segment(NamedTuple):
    """Consecutive nodes."""

    nodes: Sequence[int]
    compared: Sequence[str]


def compare_all(
    model: Model, graph: Graph, matches: Mapping[str, Taken], events: Sequence[Event]
) -> Comparison:
    """Compare every matched value in one more forward pass of PyTorch.

    Raises:
        ConversionError: ONNX Runtime cannot run a part of the file.
    """
    inputs = {
        name: value.detach().numpy().copy() for name, value in zip(model.input_names, model.inputs)
    }
    last = len(events) - 1
    late = {name for name, taken in matches.items() if taken[0] == last}
    run = SideBySide(graph, matches, inputs, segments(graph, matches, events), late)
    wanted: Dict[Taken, List[str]] = {}
    for name, taken in matches.items():
        wanted.setdefault(taken, []).append(name)

    def keep(event: int, index: int, tensor: torch.Tensor) -> None:
        names = wanted.get((event, index), ())
        if names:
            value = tensor.detach().contiguous().numpy()
            # PyTorch holds its values as well: a second copy of each took up to 1.5 GiB.
            if events[event].is_overwritten or tensor.untyped_storage().nbytes() != value.nbytes:
                value = value.copy()
            for name in names:
                run.take(name, value)

    record(model, keep)
    run.finish()
    return Comparison(sorted(run.found, key=lambda one: one.node), run.evidence)


def segments(graph: Graph, matches: Mapping[str, Taken], events: Sequence[Event]) -> List[Segment]:
    """Return the graph's nodes in pieces whose compared values fit into memory together."""
    found: List[Segment] = []
    nodes: List[int] = []
    names: List[str] = []
    size = 0
    for index, node in enumerate(graph.nodes):
        if node.op_type == "Constant":
            continue
        own = [name for name in node.output if name in matches]
        more = sum(_bytes(matches[name], events) for name in own)
        if nodes and size + more > _SEGMENT_BYTES:
            found.append(Segment(nodes, names))
            nodes, names, size = [], [], 0
        nodes.append(index)
        names += own
        size += more
    return [*found, Segment(nodes, names)]


def _bytes(taken: Taken, events: Sequence[Event]) -> int:
    made = events[taken[0]].made[taken[1]]
    elements = 1
    for each in made.shape:
        elements *= each
    return elements * 8 if made.dtype.endswith("64") else elements * 4


class SideBySide:
    """Takes PyTorch's values as they come, and runs each segment when it has those of it."""

    def __init__(
        self,
        graph: Graph,
        matches: Mapping[str, Taken],
        inputs: Arrays,
        parts: Sequence[Segment],
        late: Set[str],
    ) -> None:
        self.found: List[Compared] = []
        self.evidence: Dict[str, Evidence] = {}
        self._graph = graph
        self._matches = matches
        self._parts = list(parts)
        self._next = 0
        self._right: Arrays = dict(inputs)
        self._alone: Arrays = {}  # of values that are not matched
        self._whole: Arrays = dict(inputs)
        # PyTorch gives its outputs at the end. No segment waits for them: an output from the middle
        # of the file would hold back everything behind it.
        self._late = late
        self._pending: Dict[str, Evidence] = {}
        self._pending_whole: Arrays = {}
        # The last segment that reads each value.
        self._until: Dict[str, int] = {}
        for number, part in enumerate(self._parts):
            for index in part.nodes:
                for name in graph.reads(index):
                    self._until[name] = number
            for name in part.compared:
                self._until[name] = max(number, self._until.get(name, 0))

    def take(self, name: str, value: np.ndarray) -> None:
        """Take PyTorch's value for ``name``."""
        if name in self._pending:
            self._compare_late(name, value)
            return
        self._right[name] = value
        while self._next < len(self._parts) and all(
            each in self._right or each in self._late for each in self._parts[self._next].compared
        ):
            self._run(self._parts[self._next])

    def finish(self) -> None:
        """Run what is left; PyTorch has given everything."""
        while self._next < len(self._parts):
            self._run(self._parts[self._next])

    def _run(self, part: Segment) -> None:
        graph, number = self._graph, self._next
        self._next += 1
        made = [name for index in part.nodes for name in graph.nodes[index].output if name]
        reads = {name for index in part.nodes for name in graph.reads(index)}
        later = [
            name for name in made if self._until.get(name, -1) > number and name not in self._right
        ]
        compared = [name for name in part.compared if name in self._right]
        late = [name for name in part.compared if name in self._late and name not in compared]
        given = {
            name: self._right.get(name, self._alone.get(name))
            for name in reads
            if name in self._right or name in self._alone
        }
        given.update({name: self._right[name] for name in compared})
        alone = graph.run(part.nodes, given, list(dict.fromkeys([*compared, *later, *late])))
        for name in late:
            self._pending[name] = Evidence(self._inputs_of(name), alone[name], alone[name])
        self._alone.update({name: alone[name] for name in later})
        found = {name: self._compare_alone(name, alone.pop(name)) for name in compared}
        del alone, given  # each may hold a gigabyte
        ahead = [name for name in made if self._until.get(name, -1) > number]
        whole = graph.run(
            part.nodes,
            {name: self._whole[name] for name in reads if name in self._whole},
            list(dict.fromkeys([*compared, *ahead, *late])),
        )
        self._pending_whole.update({name: whole[name] for name in late})
        for name in compared:
            error = difference(self._right[name], whole[name], self._is_half(name))
            self.found.append(Compared(name, graph.makers[name], found[name], error))
        self._whole.update({name: whole[name] for name in ahead})
        for values in (self._right, self._alone, self._whole):
            for name in [name for name in values if self._until.get(name, -1) <= number]:
                del values[name]

    def _compare_late(self, name: str, right: np.ndarray) -> None:
        own, half = self._pending.pop(name), str(right.dtype) in _HALVES
        found = difference(right, own.own, half)
        whole = difference(right, self._pending_whole.pop(name), half)
        self.found.append(Compared(name, self._graph.makers[name], found, whole))
        if not found.agrees and own.inputs:
            self._keep(name, Evidence(own.inputs, right, own.own))

    def _inputs_of(self, name: str) -> Arrays:
        """Return PyTorch's values that make ``name``; nothing if one is not known."""
        region = self._graph.region(name, {*self._matches} - {name})
        found = {each: self._right[each] for each in region.inputs if each in self._right}
        return found if len(found) == len(region.inputs) else {}

    def _compare_alone(self, name: str, own: np.ndarray) -> Difference:
        right = self._right[name]
        found = difference(right, own, self._is_half(name))
        if not found.agrees:
            inputs = self._inputs_of(name)
            if inputs:
                self._keep(name, Evidence(inputs, right, own))
        return found

    def _is_half(self, name: str) -> bool:
        return str(self._right[name].dtype) in _HALVES

    def _keep(self, name: str, one: Evidence) -> None:
        kept = sum(_size(each) for each in self.evidence.values())
        if len(self.evidence) < _MOST_KEPT and kept + _size(one) <= _MOST_KEPT_BYTES:
            self.evidence[name] = one


def _size(one: Evidence) -> int:
    return sum(each.nbytes for each in [*one.inputs.values(), one.right, one.own])
