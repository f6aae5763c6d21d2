"""Why an engine computes another value than ONNX Runtime, as far as it can be told."""

from typing import List, Optional, Tuple

import numpy as np
import torch
from onnx import helper, numpy_helper

from trtyard.pipeline.bisect.causes import (
    UNKNOWN,
    Cause,
    Suspect,
    other_attribute,
    overflow,
    tie,
)
from trtyard.pipeline.bisect.differences import difference
from trtyard.pipeline.bisect.engine_search import FirstWrong
from trtyard.pipeline.bisect.pieces import Graph
from trtyard.pipeline.bisect.search import Evidence
from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.ops.registry import OPS, part


def engine_cause(first: FirstWrong, graph: Graph) -> Cause:
    """Return the cause that fits best."""
    suspect = Suspect(first.name, (0, 0), first.region, first.evidence)
    return (
        _custom_op(first, graph)
        or overflow(first.evidence, "TensorRT")
        or tie(suspect, graph)
        or _attribute(suspect, graph, first.evidence)
        or Cause(UNKNOWN, "TensorRT computes another value from the same inputs")
    )


def _attribute(suspect: Suspect, graph: Graph, evidence: Evidence) -> Optional[Cause]:
    found = other_attribute(suspect, graph, evidence.own)
    if found is None:
        return None
    return Cause(
        UNKNOWN,
        f"the attribute {found.name} of the node is {found.own}; TensorRT computes as with "
        f"{found.other}",
    )


def _custom_op(first: FirstWrong, graph: Graph) -> Optional[Cause]:
    """Return which of the two agrees with a custom op's reference; None for any other node."""
    node = graph.nodes[graph.makers[first.name]]
    op = next((one for one in OPS if one.op_type == node.op_type), None)
    if op is None or node.domain != DOMAIN or len(first.region.nodes) != 1:
        return None
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    attributes = [kind(given.get(name, 0)) for name, kind in op.attributes]
    compute = getattr(part(op, "reference"), f"{op.name}_reference")
    with torch.no_grad():
        results = compute(*_tensors(list(node.input), first.evidence, graph), *attributes)
    results = results if isinstance(results, tuple) else (results,)
    reference = results[list(node.output).index(first.name)].numpy()
    right, own = (
        difference(reference, value).agrees for value in (first.evidence.right, first.evidence.own)
    )
    verdict = {
        (True, False): "ONNX Runtime's function body, not with TensorRT's plugin",
        (False, True): "TensorRT's plugin, not with ONNX Runtime's function body",
    }.get((right, own), "neither of the two")
    return Cause(UNKNOWN, f"the CPU reference of {op.op_type} agrees with {verdict}")


def _tensors(names: List[str], evidence: Evidence, graph: Graph) -> Tuple[torch.Tensor, ...]:
    values = []
    for name in names:
        value = evidence.inputs.get(name)
        if value is None and name in graph.weights:
            value = numpy_helper.to_array(graph.weights[name])
        elif value is None:
            (constant,) = graph.constants[name].attribute
            value = numpy_helper.to_array(constant.t)
        values.append(torch.from_numpy(np.array(value)))
    return tuple(values)
