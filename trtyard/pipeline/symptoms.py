"""Failures that raise no error, found in what a conversion gave."""

from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.report import Symptom
from trtyard.pipeline import artifacts
from trtyard.pipeline.conversion import outputs_of
from trtyard.pipeline.export.exporter import other_values
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.onnx_model.symptoms import holds_float16, model_symptoms
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs
from trtyard.pipeline.parity.ties import proven_ties

Outputs = Mapping[str, np.ndarray]

_BOXES = "boxes"
_MOST_NAMES = 3  # of a model's parts, in a sentence
# Boxes are clipped to the picture up to rounding.
_PIXELS_BEYOND = 1.0
# With fewer alive than this share of the padded ones, most of the box head's work is for nothing.
_SHARE_ALIVE = 0.5
_KEYPOINTS, _KEYPOINT_SCORES = "keypoints", "keypoints_scores"
# Ties are rare; of keypoints that are computed wrongly most differ.
_SHARE_TIED = 0.05


def symptoms_of(
    model: Model, file: Path, outputs: Mapping[str, Outputs], comparisons: Sequence[Comparison]
) -> Tuple[Symptom, ...]:
    """Return each symptom once.

    Args:
        model: as it was converted.
        file: the ONNX file; it may be missing.
        outputs: by runtime, PyTorch's first.
        comparisons: of every pair of runtimes.
    """
    found: List[Symptom] = []
    if model.file is not None:  # no module to run again
        content = onnx.load(str(file), load_external_data=False)
        return tuple(dict.fromkeys(map(_on_one_line, model_symptoms(content))))
    if file.is_file():
        in_file = model_symptoms(onnx.load(str(file), load_external_data=False))
        found += _without_own_constants(model, outputs.get("torch", {}), in_file)
        unexplained = [each for each in comparisons if not tied_keypoints(each)]
        disagree = any(_disagree(each) for each in unexplained)
        training = [name for name, each in model.module.named_modules() if each.training]
        if disagree and training:
            names = ", ".join(training[:_MOST_NAMES]) + (", ..." if training[_MOST_NAMES:] else "")
            found.append(Symptom("left-in-training", f"in training mode: {names}"))
        elif disagree and varies(model, outputs["torch"]):
            found.append(Symptom("results-vary", "PyTorch run again gives another result"))
        elif disagree:
            found += _tied_or_frozen(model, _what_was_run(file), outputs["torch"])
    if kind_of(model.kind).is_detector and "torch" in outputs:
        size = tuple(model.inputs[0].shape[-2:])
        for runtime, values in outputs.items():
            found += box_symptoms(outputs["torch"], values, (size[0], size[1]), runtime)
        found += padding_symptoms(outputs, model.proposal_rows)
        found += [symptom for each in comparisons for symptom in tied_keypoints(each)]
    return tuple(dict.fromkeys(map(_on_one_line, found)))


def _tied_or_frozen(model: Model, file: Path, reference: Outputs) -> List[Symptom]:
    shaped = shaped_by_values(model, reference)
    if shaped:
        return shaped
    ties = tied_choices(model, file, reference)
    if ties or not is_frozen(model, file):
        return ties
    detail = (
        "model.onnx agrees with PyTorch on the values that it was exported with, and not on others"
    )
    return [Symptom("results-frozen", detail)]


def _what_was_run(file: Path) -> Path:
    """Return the file that ONNX Runtime ran: a twin, where there is one."""
    twin = file.with_name(artifacts.TWIN)
    return twin if twin.is_file() else file


def _without_own_constants(
    model: Model, reference: Outputs, symptoms: Sequence[Symptom]
) -> List[Symptom]:
    """Leave out the frozen outputs that are constants in PyTorch as well, as anchors are."""
    if not any(symptom.output for symptom in symptoms):
        return list(symptoms)
    try:
        others = outputs_of(model._replace(inputs=tuple(other_values(model.inputs))))
    except ConversionError:
        return list(symptoms)
    return [
        symptom
        for symptom in symptoms
        if symptom.output not in reference
        or not np.array_equal(reference[symptom.output], others[symptom.output])
    ]


def varies(model: Model, reference: Outputs) -> bool:
    """Tell whether PyTorch, run again on the same input, disagrees with what it gave before."""
    try:
        again = outputs_of(model)
    except ConversionError:
        return False
    return not compare_outputs(model.kind, ("torch", "torch"), reference, again).passed


def is_frozen(model: Model, file: Path) -> bool:
    """Tell whether the file gives the right results for the very values that the exporter saw.

    Where it does not for the real ones, the exporter wrote some of those values into it.
    """
    traced = model._replace(inputs=tuple(other_values(model.inputs)))
    given = {name: value.numpy() for name, value in zip(traced.input_names, traced.inputs)}
    try:
        expected = outputs_of(traced)
        found = run_onnx(file, given, model.output_names)
    except ConversionError:
        return False
    graph = onnx.load(str(file), load_external_data=False).graph
    return compare_outputs(
        model.kind,
        ("torch", "onnxruntime"),
        expected,
        found,
        has_float16=holds_float16(graph),
    ).passed


def tied_choices(model: Model, file: Path, reference: Outputs) -> List[Symptom]:
    """Tell whether nothing but choices among equal values differs; see ``proven_ties``."""
    given = {name: value.numpy() for name, value in zip(model.input_names, model.inputs)}
    graph = onnx.load(str(file), load_external_data=False).graph
    half = holds_float16(graph)

    def agrees(outputs: Outputs) -> bool:
        pair = ("torch", "onnxruntime")
        return compare_outputs(model.kind, pair, reference, outputs, has_float16=half).passed

    ties = proven_ties(model, file, given, agrees)
    places = list(dict.fromkeys(f"{tie.op} at {tie.origin}" for tie in ties))
    if not places:
        return []
    more = "" if len(places) <= _MOST_NAMES else f" and {len(places) - _MOST_NAMES} more"
    detail = (
        f"{', '.join(places[:_MOST_NAMES])}{more}: chooses among equal values; with PyTorch's "
        "choice in its place ONNX Runtime gives PyTorch's results"
    )
    return [Symptom("choice-of-a-tie", detail)]


def shaped_by_values(model: Model, reference: Outputs) -> List[Symptom]:
    """Tell whether an output of PyTorch's has another shape for other values of the inputs."""
    whole = [value for value in model.inputs if not value.is_floating_point() and value.numel()]
    smallest = tuple(
        value if value.is_floating_point() or not value.numel() else value.min().expand_as(value)
        for value in model.inputs
    )
    for values in (tuple(other_values(model.inputs)), smallest if whole else model.inputs):
        try:
            others = outputs_of(model._replace(inputs=values))
        except ConversionError:
            continue
        for name, value in reference.items():
            if value.shape != others[name].shape:
                shapes = f"{list(value.shape)} in PyTorch, {list(others[name].shape)} for others"
                return [Symptom("shape-by-values", f"{name} is {shapes} of the inputs' values")]
    return []


def box_symptoms(
    reference: Outputs, candidate: Outputs, size: Tuple[int, int], runtime: str
) -> List[Symptom]:
    """Compare the boxes of two runtimes for the same input.

    Args:
        reference: outputs by name; ``boxes`` float [..., 4] in pixels of the network's input.
        candidate: the other runtime's.
        size: height and width of the network's input in pixels.
        runtime: the candidate's name.
    """
    if _BOXES not in reference or _BOXES not in candidate:
        return []
    right, wrong = reference[_BOXES], candidate[_BOXES]
    found = []
    if np.any(right) and not np.any(wrong):
        found.append(Symptom("boxes-all-zero", f"all boxes of {runtime} are 0"))
    beyond = _beyond(wrong, size)
    if beyond is not None and _beyond(right, size) is None:
        found.append(Symptom("boxes-outside", f"{runtime} has a box {beyond}"))
    return found


def padding_symptoms(outputs: Mapping[str, Outputs], padded: int) -> List[Symptom]:
    """Tell whether most of a detector's padded proposals are none."""
    alive = [int(values["proposals"][0]) for values in outputs.values() if "proposals" in values]
    if not padded or not alive or max(alive) >= padded * _SHARE_ALIVE:
        return []
    return [Symptom("slower-than-pytorch", f"only {max(alive)} of {padded} proposals are alive")]


def tied_keypoints(comparison: Comparison) -> List[Symptom]:
    """Tell whether a few keypoints are all that differ, and their scores agree."""
    failed = [row for row in comparison.parity + comparison.detections if not row.passed]
    moved = [row for row in comparison.parity if row.output == _KEYPOINTS and row in failed]
    scored = any(row.output == _KEYPOINT_SCORES for row in comparison.parity)
    if len(failed) != 1 or not moved or not scored:
        return []
    (row,) = moved
    if row.max_abs is None or row.mismatches > row.elements * _SHARE_TIED:
        return []
    runtime = row.pair[1]
    detail = f"{row.mismatches} of {row.elements} numbers of {runtime}'s keypoints differ, no score"
    return [Symptom("keypoint-of-a-tie", detail)]


def _beyond(boxes: np.ndarray, size: Tuple[int, int]) -> Optional[str]:
    """Return a box that reaches out of the picture, or None."""
    height, width = size
    limits = np.array([width, height, width, height], dtype=np.float64) + _PIXELS_BEYOND
    rows = boxes.reshape(-1, 4)
    beyond = np.flatnonzero(np.any((rows < -_PIXELS_BEYOND) | (rows > limits), axis=1))
    if not beyond.size:
        return None
    corners = ", ".join(f"{corner:.1f}" for corner in rows[beyond[0]])
    return f"({corners}) that reaches out of {width}x{height}"


def _disagree(comparison: Comparison) -> bool:
    rows = comparison.parity + comparison.detections
    return any(row.pair == ("torch", "onnxruntime") and not row.passed for row in rows)


def _on_one_line(symptom: Symptom) -> Symptom:
    return symptom._replace(detail=" ".join(symptom.detail.split()))
