"""Where two runtimes diverge: the first wrong nodes, and how their errors grow."""

import shlex

from trtyard.core.report import (
    Bisection,
    Divergence,
    EngineSearch,
    LayerCost,
    PrecisionSearch,
    Report,
    TensorInput,
)
from trtyard.known_failures.advice import failure_named
from trtyard.report import words
from trtyard.report.charts import growth_chart
from trtyard.report.markup import Markup, joined, tag
from trtyard.report.sections import Facts, definitions, section

_SHOWN = 5  # layers of a precision


def bisect_section(report: Report) -> Markup | None:
    """Return the section "Where they diverge"; None if it was not asked for."""
    found, engine = report.bisection, report.engine_search
    if found is None and engine is None:
        return None
    parts: list[Markup] = []
    if found is not None:
        parts.append(tag("p", summary(found)))
        parts += [_divergence(each) for each in found.divergences]
        parts += [_precision(each) for each in found.precisions]
    if engine is not None:
        parts.append(tag("p", summary(engine.found)))
        parts += [_divergence(each, engine) for each in engine.found.divergences]
        lines = engine_in_words(engine)
        parts += [tag("ul", *(tag("li", line) for line in lines))] if lines else []
    return section("Where they diverge", *parts)


def summary(found: Bisection) -> str:
    """Return the result of the search in one sentence."""
    names = words.listed(words.runtime_name(name) for name in found.pair)
    if found.problem is not None:
        of = " of TensorRT" if found.pair[1] == "tensorrt" else ""
        return f"Intermediate values{of} were not compared: {found.problem}."
    if not found.compared:
        return f"The outputs of {names} agree, so intermediate values were not compared."
    compared = words.counted(found.compared, "intermediate value")
    if not found.divergences:
        return f"{names} were compared at {compared}. No wrong node was found."
    return (
        f"{names} were compared at {compared}. "
        f"{words.counted(len(found.divergences), 'node')} gave a wrong result from right inputs."
    )


def divergence_in_words(one: Divergence, engine: EngineSearch | None = None) -> list[str]:
    """Return the node, its line, the difference and the cause, one a line.

    ``engine`` is the search that found it, if TensorRT is the wrong one.
    """
    lines = [_node(one)]
    lines.append(f"at {one.origin or 'an unknown line'}")
    lines.append(_difference(one, engine))
    lines.append(f"cause: {one.detail}")
    if one.cause_origin:
        lines.append(f"cause is at {one.cause_origin}")
    known = failure_named(one.failure)
    if known is not None:
        lines.append(f"fix: {known.hint} ({known.name})")
    if one.case:
        lines.append(f"to show it alone: python {one.case[-1]}")
    return lines


def engine_in_words(search: EngineSearch) -> list[str]:
    """Return what is known of the engine's layers and of the effect of the marks, one a line."""
    if not search.found.divergences:
        return []
    lines = []
    if search.layers:
        lines.append(f"layers of the engine that compute it: {'; '.join(search.layers)}")
    if search.persists:
        lines.append("the value is wrong too if it is the only one that is marked")
    else:
        lines.append("the outputs or the value are right if it is the only one that is marked")
    if search.hidden_by:
        names = words.listed(search.hidden_by)
        lines.append(f"the outputs are right if one of these values is marked: {names}")
    if search.fused or search.unfused:
        before, after = ("; ".join(each) or "none" for each in (search.fused, search.unfused))
        lines.append(f"the mark changes layers of the engine: {before}. With it they are: {after}")
    elif search.layers:
        lines.append("the mark changes no layer of the engine")
    lines.append(f"engines built with marked values: {search.builds}")
    return lines


def precision_in_words(one: PrecisionSearch) -> list[str]:
    """Return a reduced precision's costliest layers and the option that fixes it, one a line."""
    name = one.precision
    if one.problem is not None and not one.layers:
        return [f"{name}: the layers were not compared: {one.problem}"]
    within = "stays within" if one.within_budget else "misses"
    lines = [f"{name} {within} its budget; the layers that cost most:"]
    lines += [f"{number}. {_layer(each)}" for number, each in enumerate(one.layers[:_SHOWN], 1)]
    if one.problem is not None:
        lines.append(one.problem)
    if one.keep:
        count = words.counted(len(one.keep), "node")
        lines.append(
            f"{count} of {one.nodes} in fp32 are enough ({words.counted(one.trials, 'trial')}): "
            f"--keep-fp32 {shlex.quote(','.join(one.keep))}"
        )
    return lines


def _precision(one: PrecisionSearch) -> Markup:
    first, *rest = precision_in_words(one)
    return joined(tag("h3", first), tag("ul", *(tag("li", line) for line in rest)))


def _layer(one: LayerCost) -> str:
    what = f"relative error {words.number(one.error)}"
    if one.overflows:
        what = f"{words.counted(one.overflows, 'value')} beyond its range (fp16-overflow)"
    at = f" at {one.origin}" if one.origin else ""
    return f"{one.op} {one.node}: {what}{at}"


def _divergence(one: Divergence, engine: EngineSearch | None = None) -> Markup:
    known = failure_named(one.failure)
    facts: Facts = [
        ("Line", one.origin or None),
        ("Module", one.module or None),
        ("Inputs", "; ".join(map(_tensor, one.inputs)) or None),
        ("Output", _tensor(TensorInput(one.value, one.shape, one.dtype)) if one.dtype else None),
        ("Difference", _difference(one, engine)),
        ("Cause", one.detail),
        ("Line of the cause", one.cause_origin or None),
        ("Known failure", None if known is None else f"{known.cause} ({known.name})"),
        ("Fix", None if known is None else known.hint),
        ("Alone", ", ".join(one.case) or None),
    ]
    return joined(tag("h3", _node(one)), definitions(facts), growth_chart(one))


def _node(one: Divergence) -> str:
    name = f" {one.node}" if one.node else ""
    more = f" (one of {one.nodes} nodes that make {one.value})" if one.nodes > 1 else ""
    return f"{one.op}{name}{more}"


def _difference(one: Divergence, engine: EngineSearch | None) -> str:
    text = f"{one.mismatches:,} of {one.elements:,} values differ"
    pair = ("torch", "onnxruntime")
    if engine is None:
        text += ", given PyTorch's own inputs"
    else:
        pair = engine.found.pair
        text += f"; its inputs differ by {words.number(engine.inputs_error)} of their largest value"
    if one.worst is not None:
        reference, candidate = map(words.runtime_name, pair)
        text += (
            f"; at {list(one.worst.position)} {reference} has {words.number(one.worst.reference)}, "
            f"{candidate} {words.number(one.worst.candidate)}"
        )
    return text


def _tensor(tensor: TensorInput) -> str:
    return f"{tensor.name}: {tensor.dtype} {words.TIMES.join(map(str, tensor.shape)) or 'scalar'}"
