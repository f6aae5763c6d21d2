"""Find the nodes that must stay in fp32: files are made, run and judged by the budget."""

from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple, Union

import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.precisions import FP32
from trtyard.core.report import Agreement, LayerCost, Precision, PrecisionSearch, ValueAccuracy
from trtyard.pipeline.bisect.layer_costs import LayerError, layer_errors
from trtyard.pipeline.conversion import Conversion, Outputs
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.precision.kept import ASKED_FOR
from trtyard.pipeline.precision.plan import Plan
from trtyard.pipeline.precision.run_all import OnePrecision, Ready, ready_for
from trtyard.pipeline.row import Row

_MOST_LAYERS = 10  # in the report
_MOST_TO_DROP = 16  # nodes of a list that are tried one by one

Judged = Union[ValueAccuracy, Agreement]
Passes = Callable[[Sequence[str]], bool]


def search_precisions(
    row: Row,
    plan: Plan,
    model: Model,
    conversion: Conversion,
    reference: Outputs,
    folder: Path,
    precisions: Sequence[Precision],
    announce: Callable[[str], None],
) -> Tuple[PrecisionSearch, ...]:
    """Return a search for each precision that ran in ONNX Runtime.

    Args:
        row: of the conversion.
        plan: what was asked for with --precision.
        model: as it was converted.
        conversion: of the model.
        reference: the outputs in fp32.
        folder: of the results.
        precisions: their facts; fp32's are not looked at.
        announce: says what is done.
    """
    ran = [each for each in precisions if each.name != FP32 and each.values + each.agreements]
    if not ran:
        return ()
    ready = ready_for(row, plan, model, reference, folder)
    found = []
    for each in ran:
        announce(f"{each.name}, bisect: rank the layers by what they cost")
        one = OnePrecision(each.name, row, plan, model, conversion, folder, announce)
        judged: List[Judged] = [*each.values, *each.agreements]
        within = all(value.passed for value in judged if value.runtime == "onnxruntime")
        found.append(search_precision(each.name, one, ready, within))
    return tuple(found)


def search_precision(
    name: str, one: OnePrecision, ready: Ready, within_budget: bool
) -> PrecisionSearch:
    """Return the layers by their cost and, if the budget is missed, the list to keep in fp32.

    Args:
        name: of the precision.
        one: rewrites and judges it.
        ready: the fp32 file and the inputs.
        within_budget: whether it needs no list.
    """
    try:
        reduced = one.model_to_run(ready)
        errors = layer_errors(ready.model, reduced, ready.inputs[0])
    except ConversionError as error:
        return PrecisionSearch(name, within_budget, (), problem=error.message)
    layers = tuple(_cost(each, ready.model) for each in errors[:_MOST_LAYERS])
    found = PrecisionSearch(name, within_budget, layers, nodes=len(errors))
    if within_budget:
        return found
    trials: List[Sequence[str]] = []

    def passes(kept: Sequence[str]) -> bool:
        trials.append(kept)
        with_kept = ready._replace(
            kept={**ready.kept, **dict.fromkeys(kept, ASKED_FOR)},
            asked=[*ready.asked, *kept],
        )
        try:
            return one.is_within_budget(ready, one.model_to_run(with_kept))
        except ConversionError:  # some mixtures of types have no kernel
            return False

    ranked = _ranked(errors, ready.model.graph)
    keep = shortest_list(ranked, passes)
    if keep is None:
        problem = "not even every layer in fp32 brings it within its budget"
        return found._replace(trials=len(trials), problem=problem)
    return found._replace(keep=tuple(keep), trials=len(trials))


def _ranked(errors: Sequence[LayerError], graph: onnx.GraphProto) -> List[str]:
    """Return the nodes in the order in which they are kept in fp32.

    A value that the reduced precision cannot hold has to reach its readers in fp32 as well.
    """
    names = []
    for each in errors:
        names.append(each.node)
        if each.overflows:
            made = set(graph.node[each.place].output)
            names += [node.name for node in graph.node if made.intersection(node.input)]
    return list(dict.fromkeys(names))


def shortest_list(ranked: Sequence[str], passes: Passes) -> Optional[List[str]]:
    """Return the first nodes of ``ranked`` that pass together, without those that need not stay.

    None if not even all of them pass.
    """
    count = 1
    while not passes(ranked[:count]):
        if count >= len(ranked):
            return None
        count = min(2 * count, len(ranked))
    low, high = count // 2, count  # low does not pass, high does
    while high - low > 1:
        middle = (low + high) // 2
        if passes(ranked[:middle]):
            high = middle
        else:
            low = middle
    kept = list(ranked[:high])
    if len(kept) <= _MOST_TO_DROP:
        for name in reversed(kept[:-1]):
            rest = [each for each in kept if each != name]
            if passes(rest):
                kept = rest
    return kept


def _cost(error: LayerError, model: onnx.ModelProto) -> LayerCost:
    node = model.graph.node[error.place]
    return LayerCost(node.name, node.op_type, origin_of(node) or "", error.error, error.overflows)
