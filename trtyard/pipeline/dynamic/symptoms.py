"""Why a dynamic model's file agrees with PyTorch at some sizes only."""

from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.report import SizeParity, Symptom
from trtyard.pipeline import artifacts
from trtyard.pipeline.dynamic.comparison import Outputs, Reference, SizedRuns, in_words
from trtyard.pipeline.dynamic.frozen import Frozen, frozen_sizes
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.symptoms import holds_float16

_RUNTIME = "onnxruntime"
_MOST_PLACES = 3


def size_symptoms(model: Model, file: Path, runs: SizedRuns) -> Tuple[Symptom, ...]:
    """Return what the first size that ONNX Runtime fails at shows of the file.

    Args:
        model: as it was converted.
        file: the ONNX file; it may be missing.
        runs: the model's, at every size.
    """
    twin = file.with_name(artifacts.TWIN)
    file = twin if twin.is_file() else file
    failed = _first_failure(runs)
    if failed is None or not file.is_file():
        return ()
    parity, reference = failed
    traced, _inputs = runs.traced()
    half = holds_float16(onnx.load(str(file), load_external_data=False).graph)

    def agrees(outputs: Outputs) -> bool:
        return runs.comparison(parity.pair, reference, outputs, half).passed

    try:
        places = frozen_sizes(
            file, runs.inputs_of(reference), model.output_names, traced, parity.sizes, agrees
        )
    except ConversionError:
        return ()
    return tuple(
        Symptom(
            "size-frozen",
            _detail(name, [one for one in places if one.dimension == name], traced, parity.sizes),
        )
        for name in dict.fromkeys(one.dimension for one in places)
    )


def _first_failure(runs: SizedRuns) -> Optional[Tuple[SizeParity, Reference]]:
    """Return a failed comparison with ONNX Runtime, if possible at a size unlike the trace's."""
    traced, _inputs = runs.traced()
    failed: List[Tuple[SizeParity, Reference]] = [
        (parity, reference)
        for parity in runs.parities
        for reference in runs.references
        if parity.pair[1] == _RUNTIME and not parity.passed and reference.size.sizes == parity.sizes
    ]
    unlike = [one for one in failed if all(one[0].sizes[name] != traced[name] for name in traced)]
    return next(iter(unlike or failed), None)


def _detail(
    name: str, places: Sequence[Frozen], traced: Mapping[str, int], sizes: Mapping[str, int]
) -> str:
    shown = "; ".join(str(one) for one in places[:_MOST_PLACES])
    more = len(places) - _MOST_PLACES
    where = shown + (f" and {more} more" if more > 0 else "")
    if places[0].is_proven:
        return (
            f"{name} is fixed to {traced[name]}, its size in the trace, by {where}. With "
            f"{sizes[name]} in its place ONNX Runtime gives PyTorch's results at {in_words(sizes)}"
        )
    return f"{name} may be fixed to {traced[name]}, its size in the trace, by {where}"
