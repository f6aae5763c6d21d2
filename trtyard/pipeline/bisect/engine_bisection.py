"""Search for the first value in which an engine differs from ONNX Runtime, for the report."""

import time
from pathlib import Path
from typing import Callable, Sequence, Tuple

import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.report import Bisection, Divergence, EngineSearch, Growth, TensorInput
from trtyard.pipeline.bisect.engine_causes import engine_cause
from trtyard.pipeline.bisect.engine_search import (
    FirstWrong,
    Searched,
    changed_layers,
    find_first_wrong,
)
from trtyard.pipeline.bisect.looking import Arrays, Look
from trtyard.pipeline.bisect.matching import module_of
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.tensorrt.layers import EngineLayer

PAIR = ("onnxruntime", "tensorrt")
_MOST_LAYERS = 8  # of each list
_MOST_NODES = 6  # of a layer


def not_searched(problem: str) -> EngineSearch:
    """Return the result of a search that could not start."""
    return EngineSearch(Bisection(PAIR, 0, (), problem=problem))


def bisect_engine(
    file: Path,
    inputs: Arrays,
    look: Look,
    agrees: bool,
    is_half: bool,
    announce: Callable[[str], None],
) -> EngineSearch:
    """Return where the engine diverges from ONNX Runtime.

    Args:
        file: what the engine was built from.
        inputs: of this run, by name.
        look: runs the engine with marked values.
        agrees: whether the outputs agree within their tolerances.
        is_half: the file computes in 16 bits.
        announce: says what is done.
    """
    if agrees:
        return EngineSearch(Bisection(PAIR, 0, ()))
    announce("bisect: compare intermediate values of ONNX Runtime and TensorRT")
    start = time.perf_counter()
    try:
        found = find_first_wrong(onnx.load(str(file)), inputs, look, is_half)
        divergences = () if found.first is None else (_divergence(found, found.first),)
    except ConversionError as error:
        return not_searched(error.message)
    except Exception as error:  # an error here must not replace the conversion's result
        return not_searched(f"the search failed ({type(error).__name__}: {error})")
    fused, unfused = changed_layers(found.layers, found.marked_layers)
    first = found.first
    return EngineSearch(
        Bisection(PAIR, found.compared, divergences, time.perf_counter() - start),
        builds=found.builds,
        inputs_error=None if first is None else first.inputs_error,
        persists=None if first is None else first.persists,
        hidden_by=tuple(found.hidden_by),
        layers=() if first is None else _shown(_layers_of(first, found)),
        fused=_shown(fused),
        unfused=_shown(unfused),
    )


def _divergence(found: Searched, first: FirstWrong) -> Divergence:
    graph, right = found.graph, first.evidence.right
    node = graph.nodes[graph.makers[first.name]]
    cause = engine_cause(first, graph)
    detail = cause.detail
    if found.is_gradual:
        detail = "the error grows from node to node, and no single node is the cause"
    if not found.is_complete:
        detail += f"; the search stopped after {found.builds} builds: an earlier value may be wrong"
    return Divergence(
        node=node.name,
        op=node.op_type,
        value=first.name,
        shape=tuple(right.shape),
        dtype=str(right.dtype),
        module=module_of(node),
        origin=origin_of(node) or "",
        inputs=tuple(
            TensorInput(name, tuple(value.shape), str(value.dtype))
            for name, value in first.evidence.inputs.items()
        ),
        nodes=len(first.region.nodes),
        max_abs=first.error.max_abs,
        mismatches=first.error.mismatches,
        elements=first.error.elements,
        worst=first.error.worst,
        failure=cause.name,
        detail=detail,
        cause_origin=cause.origin,
        growth=tuple(
            Growth(name, graph.nodes[graph.makers[name]].op_type, error)
            for name, error in first.growth
        ),
    )


def _layers_of(first: FirstWrong, found: Searched) -> Sequence[EngineLayer]:
    """Return the layers of the engine without marks that compute the node."""
    names = {found.graph.nodes[index].name for index in first.region.nodes}
    return [each for each in found.layers or () if names.intersection(each.nodes)]


def _shown(layers: Sequence[EngineLayer]) -> Tuple[str, ...]:
    shown = [_in_words(each) for each in layers[:_MOST_LAYERS]]
    more = len(layers) - _MOST_LAYERS
    return (*shown, f"and {more} more") if more > 0 else tuple(shown)


def _in_words(layer: EngineLayer) -> str:
    nodes = [each for each in layer.nodes if each != layer.name]
    if not nodes:
        return layer.name
    more = len(nodes) - _MOST_NODES
    names = ", ".join(nodes[:_MOST_NODES])
    return f"{layer.name} ({names} and {more} more)" if more > 0 else f"{layer.name} ({names})"
