"""The main job: one model to ONNX and TensorRT, compared and reported."""

import datetime
import resource
import shlex
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from trtyard.core.errors import ParityError, UsageError
from trtyard.core.files import published_together, write_json
from trtyard.core.report import (
    JSON_FILE,
    Inputs,
    Picture,
    Proposals,
    Report,
    TensorInput,
    Weights,
    check_report,
    exit_code,
)
from trtyard.core.report_json import report_value
from trtyard.core.shown_paths import shown
from trtyard.pipeline import artifacts
from trtyard.pipeline.conversion import Conversion, Outcome, PluginSource
from trtyard.pipeline.models.faster_rcnn.conventions import DETECTION_IOU, SCORE_THRESHOLD
from trtyard.pipeline.models.model import DETECTOR, TORCHVISION_DETECTOR, Model
from trtyard.pipeline.models.own_types import precision_of
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.overlay import draw_overlay
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs, detections_in
from trtyard.pipeline.parity.detections import Thresholds
from trtyard.pipeline.row import Row, exporting
from trtyard.pipeline.stages import ENGINE
from trtyard.pipeline.symptoms import symptoms_of
from trtyard.pipeline.versions import versions

# Of faster_rcnn, by which a difference near one of them is explained.
_THRESHOLDS = Thresholds(SCORE_THRESHOLD, DETECTION_IOU)


class Request(NamedTuple):
    """What the user asked for; None takes the default."""

    model: str
    out: Path
    executor: str  # "host" or "docker"
    weights: str
    image: Optional[Path]
    size: Optional[int]
    input_shape: Optional[str]
    top_n: Optional[int]
    opset: Optional[int]
    plugins: Optional[Path]
    plugin_cache: Optional[Path]
    plugin_sources: Path
    until: str = ENGINE  # or ONNX: nothing of TensorRT is touched then
    norm_epsilon: Optional[float] = None


def convert(row: Row, request: Request) -> int:
    """Convert, compare and write the report; return the exit code.

    Files are moved into ``request.out`` together at the end: an interruption leaves what an
    earlier run wrote.

    Raises:
        TrtyardError: the request cannot be taken at all. A stage that fails is no exception: it
            stands in the report, and in the exit code.
    """
    _refuse_to_replace(request.out)
    model = load_model(
        request.model,
        weights=request.weights,
        image=None if request.image is None else str(request.image),
        size=request.size,
        input_shape=request.input_shape,
        top_n=request.top_n,
        norm_epsilon=request.norm_epsilon,
    )
    row = exporting(row, model.exporter, request.opset)
    with published_together(request.out, artifacts.ALL) as folder:
        plugins = PluginSource(
            request.plugins, request.plugin_sources, request.plugin_cache or folder
        )
        outcome = Conversion(row, model, folder, plugins, _announce).run(request.until)
        report = _report(row, request, model, outcome, folder)
        check_report(report)
        write_json(folder / JSON_FILE, report_value(shown(report)))
    return exit_code(report)


def _refuse_to_replace(folder: Path) -> None:
    """See that what has the results' names in ``folder`` is an earlier conversion's.

    Raises:
        UsageError: it is not: it would be replaced, or removed.
    """
    there = [name for name in artifacts.ALL if (folder / name).exists()]
    if there and artifacts.REPORTS[0] not in there:
        raise UsageError(
            f"{folder} holds {', '.join(there)}, which no conversion left there: there is no "
            f"{artifacts.REPORTS[0]} beside it",
            "give another folder with --out, or move that away",
        )


def _announce(line: str) -> None:
    sys.stdout.write(f"{line} ...\n")
    sys.stdout.flush()


def _report(row: Row, request: Request, model: Model, outcome: Outcome, folder: Path) -> Report:
    found = versions()
    if outcome.engine is not None:
        artifacts.write_engine_note(folder, row, outcome.engine, found, outcome.library)
    comparisons = _compare(model, outcome)
    overlay = _draw(model, outcome.outputs, folder)
    return Report(
        row=row.name,
        model=model.name,
        precision=precision_of(model.module),
        executor=request.executor,
        stages=tuple(outcome.stages),
        parity=tuple(row for each in comparisons for row in each.parity),
        detections=tuple(row for each in comparisons for row in each.detections),
        engine=outcome.engine,
        artifacts=artifacts.artifact_facts(folder),
        inputs=_inputs(model),
        versions=found,
        proposals=_proposals(model, outcome.outputs),
        exporter=row.exporter,
        opset=row.opset,
        command=_command(row, request),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        # ru_maxrss is in KiB on Linux.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        overlay=overlay,
        notes=tuple(model.notes),
        warnings=() if outcome.exported is None else outcome.exported.warnings,
        symptoms=symptoms_of(model, folder / artifacts.ONNX, outcome.outputs, comparisons),
    )


def _compare(model: Model, outcome: Outcome) -> List[Comparison]:
    """Compare every pair of runtimes that ran, the earlier one as the reference."""
    outputs = outcome.outputs
    names = list(outputs)
    thresholds = _THRESHOLDS if model.kind == DETECTOR else None
    has_float16 = outcome.exported is not None and outcome.exported.has_float16
    return [
        compare_outputs(
            model.kind, (first, second), outputs[first], outputs[second], thresholds, has_float16
        )
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    ]


def _draw(model: Model, outputs: Dict[str, Dict[str, np.ndarray]], folder: Path) -> Optional[str]:
    if model.kind not in (DETECTOR, TORCHVISION_DETECTOR) or model.picture is None:
        return None
    detections = {}
    for runtime, values in outputs.items():
        try:
            (detections[runtime],) = detections_in(model.kind, values)
        except ParityError:
            continue  # the comparison has said what is wrong with them
    if not detections:
        return None
    draw_overlay(model.picture.rgb, model.scale, detections, folder / artifacts.OVERLAY)
    return artifacts.OVERLAY


def _inputs(model: Model) -> Inputs:
    picture = model.picture
    return Inputs(
        tensors=tuple(
            TensorInput(name, tuple(value.shape), str(value.dtype).replace("torch.", ""))
            for name, value in zip(model.input_names, model.inputs)
        ),
        image=None
        if picture is None
        else Picture(picture.name, picture.sha256, picture.rgb.shape[1], picture.rgb.shape[0]),
        weights=Weights(model.weights.source, model.weights.sha256),
    )


def _proposals(model: Model, outputs: Dict[str, Dict[str, np.ndarray]]) -> Tuple[Proposals, ...]:
    return tuple(
        Proposals(runtime, int(values["proposals"][0]), model.proposal_rows)
        for runtime, values in outputs.items()
        if "proposals" in values
    )


def _command(row: Row, request: Request) -> str:
    words = ["./run", "convert", "--model", request.model, "--trt", row.name]
    for name, value in (
        ("--weights", None if request.weights == "seeded" else request.weights),
        ("--image", request.image),
        ("--size", request.size),
        ("--input", request.input_shape),
        ("--top-n", request.top_n),
        ("--norm-eps", request.norm_epsilon),
        ("--opset", request.opset),
        ("--until", None if request.until == ENGINE else request.until),
    ):
        if value is not None:
            words += [name, str(value)]
    return " ".join(map(shlex.quote, words))
