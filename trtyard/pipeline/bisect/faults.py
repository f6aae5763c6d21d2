"""Find the faults of a file: values that are wrong though their inputs are right."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

import numpy as np
import onnx
import torch

from trtyard.pipeline.bisect.causes import TIE, Cause, Suspect, cause_of, learned_names
from trtyard.pipeline.bisect.differences import difference
from trtyard.pipeline.bisect.matching import Taken, match
from trtyard.pipeline.bisect.pieces import Graph
from trtyard.pipeline.bisect.recording import Event, record
from trtyard.pipeline.bisect.search import Compared, Comparison, compare_all
from trtyard.pipeline.models.model import Model

_MOST_ROUNDS = 3
_MOST_OTHERS = 12  # values of PyTorch that a wrong value may be instead
_NEAR = 3  # operators behind the matched one
_MOST_OUTSIDE = 1 << 20  # elements of a tensor from outside


class Fault(NamedTuple):
    """A value that is wrong though its inputs are right."""

    suspect: Suspect
    compared: Compared
    cause: Cause
    growth: List[Compared]  # from here to the outputs


class Found(NamedTuple):
    """The result of a search."""

    graph: Graph
    compared: int  # values
    faults: List[Fault]


def find_faults(model: Model, file: onnx.ModelProto, agrees: bool = False) -> Found:
    """Compare the file with one forward pass of PyTorch, and return its faults in order, ties last.

    Args:
        model: in PyTorch.
        file: of the same model.
        agrees: whether the outputs agree; then there is no fault that matters.

    Raises:
        ConversionError: ONNX Runtime cannot run the file.
    """
    outside: Dict[Taken, np.ndarray] = {}

    def keep(event: int, index: int, tensor: torch.Tensor) -> None:
        if index < 0 and tensor.numel() <= _MOST_OUTSIDE:
            outside[event, index] = tensor.detach().numpy().copy()

    events = record(model, keep)
    matches = match(file, events)
    graph = Graph(file)
    comparison = compare_all(model, graph, matches, events)
    for _ in range(_MOST_ROUNDS):
        if agrees or _outputs_agree(graph, comparison):
            break
        better = _corrected(model, graph, matches, events, comparison)
        if better == matches:
            break
        matches = better
        comparison = compare_all(model, graph, matches, events)
    found = Found(graph, len(comparison.values), [])
    if agrees or _outputs_agree(graph, comparison):
        return found
    learned = learned_names(model.module)
    wrong_outputs = {
        one.name for one in comparison.values if one.name in graph.outputs and not one.whole.agrees
    }
    behind: Set[int] = set()
    for name in wrong_outputs:
        behind |= graph.before(name)
    nodes: Set[int] = set()  # one fault may show in several outputs of a node
    for one in comparison.values:
        if one.alone.agrees or one.whole.agrees or one.node not in behind - nodes:
            continue
        nodes.add(one.node)
        region = graph.region(one.name, set(matches) - {one.name})
        suspect = Suspect(one.name, matches[one.name], region, comparison.evidence.get(one.name))
        cause = cause_of(suspect, graph, events, matches, outside, learned)
        found.faults.append(Fault(suspect, one, cause, _growth(graph, one, comparison)))
    found.faults.sort(key=lambda fault: fault.cause.name == TIE)  # ties are mostly harmless
    return found


def _outputs_agree(graph: Graph, comparison: Comparison) -> bool:
    return all(one.whole.agrees for one in comparison.values if one.name in graph.outputs)


def _growth(graph: Graph, first: Compared, comparison: Comparison) -> List[Compared]:
    """Return the values that depend on the first one, in order."""
    reached = set(graph.nodes[first.node].output)
    for index in range(first.node + 1, len(graph.nodes)):
        if graph.uses[index] & reached:
            reached.update(graph.nodes[index].output)
    return [one for one in comparison.values if one.name in reached and one.node >= first.node]


def _corrected(
    model: Model,
    graph: Graph,
    matches: Mapping[str, Taken],
    events: Sequence[Event],
    comparison: Comparison,
) -> Dict[str, Taken]:
    """Return the matches without those that the values show to be wrong.

    A value that is wrong, but equals another value of PyTorch from the same line or close behind,
    is that one. And one whose error has no effect on what is made of it was not the right one.
    """
    better = dict(matches)
    by_name = {one.name: one for one in comparison.values}
    others: Dict[Taken, List[str]] = {}
    for one in comparison.values:
        if one.alone.agrees or one.name in graph.outputs:
            continue
        if one.name in comparison.evidence:
            for taken in _others(matches[one.name], events):
                others.setdefault(taken, []).append(one.name)
    equal = _equal_to(model, others, comparison) if others else {}
    better.update(equal)
    for one in comparison.values:
        if one.alone.agrees or not one.whole.agrees:
            continue
        for name in graph.region(one.name, set(matches) - {one.name}).inputs:
            known = by_name.get(name)
            if known is not None and not known.whole.agrees and name not in equal:
                better.pop(name, None)
    return better


def _others(taken: Taken, events: Sequence[Event]) -> List[Taken]:
    event = events[taken[0]]
    made = event.made[taken[1]]
    near = {taken[0]}
    for number in range(taken[0] + 1, len(events) - 1):
        if near.intersection(events[number].needs):
            near.add(number)
        if len(near) > _NEAR:
            break
    numbers = [
        number
        for number, other in enumerate(events[:-1])
        if number in near
        or (other.module == event.module and set(other.places[:2]) & set(event.places[:2]))
    ]
    found = [
        (number, index)
        for number in numbers
        for index, one in enumerate(events[number].made)
        if one == made and (number, index) != taken
    ]
    return sorted(found, key=lambda one: abs(one[0] - taken[0]))[:_MOST_OTHERS]


def _equal_to(
    model: Model, others: Mapping[Taken, Sequence[str]], comparison: Comparison
) -> Dict[str, Taken]:
    found: Dict[str, Taken] = {}

    def keep(event: int, index: int, tensor: torch.Tensor) -> None:
        names = others.get((event, index), ())
        value: Optional[np.ndarray] = None
        for name in names:
            if name not in found:
                value = tensor.detach().contiguous().numpy() if value is None else value
                if difference(value, comparison.evidence[name].own).agrees:
                    found[name] = (event, index)

    record(model, keep)
    return found
