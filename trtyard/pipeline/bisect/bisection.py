"""Search for the first wrong node of an exported file, for the report."""

import time
from pathlib import Path
from typing import Callable, List, Sequence

import numpy as np
import onnx
import torch

from trtyard.core.errors import ConversionError
from trtyard.core.report import Bisection, Divergence, Growth, TensorInput
from trtyard.pipeline.artifacts import MOST_CASES
from trtyard.pipeline.bisect.case import write_case
from trtyard.pipeline.bisect.faults import Fault, Found, find_faults
from trtyard.pipeline.bisect.matching import module_of
from trtyard.pipeline.bisect.recording import is_supported
from trtyard.pipeline.bisect.search import Compared
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.origin import origin_of

PAIR = ("torch", "onnxruntime")
_MOST_GROWTH = 40  # values of the chart


def bisect(
    model: Model, file: Path, folder: Path, agrees: bool, announce: Callable[[str], None]
) -> Bisection:
    """Return where the file diverges from PyTorch, and write the smallest cases into ``folder``.

    Args:
        model: as it was converted.
        file: what ONNX Runtime ran.
        folder: of the results.
        agrees: whether the outputs agree within their tolerances.
        announce: says what is done.
    """
    if not is_supported():
        return _not_run(f"torch {torch.__version__} cannot record its operators; torch 2 can")
    if not file.is_file():
        return _not_run("there is no ONNX file to compare")
    announce("bisect: compare intermediate values of PyTorch and ONNX Runtime")
    start = time.perf_counter()
    try:
        found = find_faults(model, onnx.load(str(file)), agrees)
    except ConversionError as error:
        return _not_run(error.message)
    except Exception as error:  # an error here must not replace the conversion's result
        return _not_run(f"the search failed ({type(error).__name__}: {error})")
    divergences = tuple(
        _divergence(found, fault, folder, number)
        for number, fault in enumerate(found.faults[:MOST_CASES], 1)
    )
    return Bisection(PAIR, found.compared, divergences, time.perf_counter() - start)


def _not_run(problem: str) -> Bisection:
    return Bisection(PAIR, 0, (), problem=problem)


def _divergence(found: Found, fault: Fault, folder: Path, number: int) -> Divergence:
    graph, compared, suspect = found.graph, fault.compared, fault.suspect
    node = graph.nodes[compared.node]
    evidence = suspect.evidence
    inputs: Sequence[TensorInput] = ()
    shape, dtype = (), ""
    if evidence is not None:
        inputs = [_tensor(name, value) for name, value in evidence.inputs.items()]
        shape, dtype = tuple(evidence.right.shape), str(evidence.right.dtype)
    return Divergence(
        node=node.name,
        op=node.op_type,
        value=suspect.name,
        shape=shape,
        dtype=dtype,
        module=module_of(node),
        origin=origin_of(node) or "",
        inputs=tuple(inputs),
        nodes=len(suspect.region.nodes),
        max_abs=compared.alone.max_abs,
        mismatches=compared.alone.mismatches,
        elements=compared.alone.elements,
        worst=compared.alone.worst,
        failure=fault.cause.name,
        detail=fault.cause.detail,
        cause_origin=fault.cause.origin,
        growth=tuple(
            Growth(one.name, graph.nodes[one.node].op_type, one.whole.relative)
            for one in _thinned(fault.growth)
        ),
        case=write_case(fault, graph, folder, number),
    )


def _tensor(name: str, value: np.ndarray) -> TensorInput:
    return TensorInput(name, tuple(value.shape), str(value.dtype))


def _thinned(growth: List[Compared]) -> List[Compared]:
    """Return at most ``_MOST_GROWTH`` values, with the first and the last one."""
    if len(growth) <= _MOST_GROWTH:
        return growth
    chosen = np.linspace(0, len(growth) - 1, _MOST_GROWTH).round().astype(int)
    return [growth[index] for index in chosen]
