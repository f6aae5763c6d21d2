"""The main job: one model to ONNX and TensorRT, compared and reported."""

import datetime
import json
import resource
import shlex
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from trtyard.core.errors import ParityError, UsageError
from trtyard.core.files import published_together, write_json
from trtyard.core.onnx_files import is_onnx_file, refuse_unfit
from trtyard.core.report import (
    FAILED,
    JSON_FILE,
    PASSED,
    UNSIMPLIFIED,
    Bisection,
    EngineSearch,
    Inputs,
    Packages,
    Picture,
    Precision,
    PrecisionSearch,
    Proposals,
    Report,
    TensorInput,
    Weights,
    check_report,
    declared,
)
from trtyard.core.report_json import report_value
from trtyard.core.request import (
    ONNXRUNTIME_TENSORRT,
    REQUEST_FILE,
    TORCH_ONNXRUNTIME,
    BenchRequest,
    ConversionRequest,
)
from trtyard.core.shown_paths import shown
from trtyard.pipeline import artifacts
from trtyard.pipeline.conversion import Conversion, CudaSource, Outcome, PluginSource
from trtyard.pipeline.dynamic.comparison import dimensions_of
from trtyard.pipeline.dynamic.symptoms import size_symptoms
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.own_types import precision_of
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.given_file import signature_in
from trtyard.pipeline.onnx_model.simplify import check_release
from trtyard.pipeline.onnx_model.versions import CUDA_PROVIDER
from trtyard.pipeline.overlay import draw_overlay
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs, detections_in, pair_of
from trtyard.pipeline.precision.plan import Plan, plan_of
from trtyard.pipeline.precision.run_all import run_precisions, write_notes
from trtyard.pipeline.row import Row, exporting
from trtyard.pipeline.streams import restore_streams
from trtyard.pipeline.symptoms import symptoms_of
from trtyard.pipeline.versions import versions


class Surroundings(NamedTuple):
    """Where a conversion runs; no choice of the user's."""

    executor: str  # "host" or "docker"
    out: Path
    plugin_sources: Path
    plugin_cache: Optional[Path]  # where to compile plugins; None: in ``out``
    weights_address: Optional[str] = None  # where the host downloaded the weights
    packages: Optional[Packages] = None  # that are installed for the model
    gpu_packages: Optional[Path] = None  # folder with onnxruntime-gpu, for --runtime
    onnxruntime_headers: Optional[Path] = None  # to compile the kernels for it
    provider: str = CUDA_PROVIDER  # of --runtime; tests run the same on the CPU


def convert(row: Row, request: ConversionRequest, where: Surroundings) -> Report:
    """Convert, compare, write the report and return it.

    Files are moved into ``where.out`` together at the end: an interruption leaves what an
    earlier run wrote.

    Raises:
        TrtyardError: the request cannot be taken at all. A stage that fails is no exception: it
            stands in the report, and in the exit code.
    """
    _refuse_to_replace(where.out)
    if request.packages and where.packages is None:
        raise UsageError(
            f"--with {request.packages[0]}: this environment cannot install packages",
            "start the conversion with ./run convert, which installs them",
        )
    if is_onnx_file(request.model):
        refuse_unfit(request)
    if request.simplify:
        check_release()
    model = load_model(
        request.model,
        weights=request.weights,
        image=request.image,
        size=request.size,
        input_shape=request.input,
        top_n=request.top_n,
        norm_epsilon=request.norm_eps,
        detections=request.detections,
    )
    if model.file is not None:
        _refuse_own_result(model.file.path, where.out)
        _announce_file(model)
    row = exporting(row, model.exporter, request.opset)
    cache = None if where.plugin_cache is None else where.plugin_cache / "calibration"
    plan = plan_of(row, request, model, cache)
    with published_together(where.out, artifacts.ALL) as folder:
        plugins = PluginSource(
            None if request.plugins is None else Path(request.plugins),
            where.plugin_sources,
            where.plugin_cache or folder,
        )
        earlier = _seconds_last_time(where.out, _command(row, request))
        given = None if request.onnx is None else Path(request.onnx)
        cuda = None if request.runtime is None else _cuda_source(request, where)
        conversion = Conversion(
            row, model, folder, plugins, _announce, request.simplify, earlier, given, cuda
        )
        outcome = conversion.run(request.until, plan.builds_fp32)
        precisions = run_precisions(
            row, plan, model, conversion, outcome, folder, request.until, _announce
        )
        latency = None
        if isinstance(request, BenchRequest):
            from trtyard.pipeline.latency.bench import Subject, bench

            subject = Subject(
                row, model, plugins, folder, outcome, precisions, _own_precision(model), cuda
            )
            latency = bench(subject, request, _announce)
        comparisons = _compare(model, outcome)
        report = _report(row, request, where, model, outcome, folder, comparisons, precisions)
        if request.searches(ONNXRUNTIME_TENSORRT):
            search = _bisect_engine(conversion, outcome, comparisons, folder)
            report = report._replace(engine_search=search)
        if report.bisection is not None and precisions:
            searches = _search_precisions(row, plan, model, conversion, outcome, folder, precisions)
            report = report._replace(bisection=report.bisection._replace(precisions=searches))
        report = report._replace(latency=latency, packages=where.packages)
        check_report(report)
        write_json(folder / REQUEST_FILE, shown(request.to_json()))
        # The paths in its command are replaced already.
        written = shown(report)._replace(command=report.command)
        write_json(folder / JSON_FILE, report_value(written))
    return report


def _cuda_source(request: ConversionRequest, where: Surroundings) -> CudaSource:
    library = None if request.ops is None else Path(request.ops)
    return CudaSource(where.gpu_packages, library, where.onnxruntime_headers, where.provider)


def _search_precisions(
    row: Row,
    plan: Plan,
    model: Model,
    conversion: Conversion,
    outcome: Outcome,
    folder: Path,
    precisions: Tuple[Precision, ...],
) -> Tuple[PrecisionSearch, ...]:
    from trtyard.pipeline.bisect.keep_search import search_precisions

    if "torch" not in outcome.outputs:
        return ()
    reference = outcome.outputs["torch"]
    return search_precisions(row, plan, model, conversion, reference, folder, precisions, _announce)


def _refuse_to_replace(folder: Path) -> None:
    """See that what has the results' names in ``folder`` is an earlier conversion's.

    Raises:
        UsageError: it is not: it would be replaced, or removed.
    """
    there = [name for name in artifacts.ALL if (folder / name).exists()]
    if there and artifacts.REPORTS[0] not in there:
        raise UsageError(
            f"{folder} has {', '.join(there)} but no {artifacts.REPORTS[0]}, so it is not the "
            "output of a conversion",
            "use another folder with --out, or move these files",
        )


def _seconds_last_time(folder: Path, command: str) -> Dict[str, float]:
    """Return the seconds of each stage when the same command last wrote into ``folder``."""
    try:
        value = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        if value["command"] != command:
            return {}
        stages = value["stages"]
        return {each["name"]: float(each["seconds"]) for each in stages if "seconds" in each}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _refuse_own_result(file: Path, out: Path) -> None:
    """Raise ``UsageError`` if ``file`` would be replaced by what is made of it."""
    if file.name in artifacts.ALL and file.resolve().parent == out.resolve():
        raise UsageError(
            f"--model {file} is in the output folder, and its result would replace it",
            "give another folder with --out",
        )


def _announce_file(model: Model) -> None:
    """Print the inputs and outputs of an ONNX file, and the shapes of this run."""
    if model.file is None:
        return
    facts = model.file.facts
    lines = [f"{model.name}: opset {facts.opset}, IR {facts.ir_version}, {facts.nodes} nodes"]
    for each, value in zip(facts.inputs, model.inputs):
        shape = "x".join(map(str, value.shape)) or "a scalar"
        lines.append(f"  input  {declared(each)}, here {shape}")
    lines += [f"  output {declared(each)}" for each in facts.outputs]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _announce(line: str) -> None:
    restore_streams()
    sys.stdout.write(f"{line} ...\n")
    sys.stdout.flush()


def _report(
    row: Row,
    request: ConversionRequest,
    where: Surroundings,
    model: Model,
    outcome: Outcome,
    folder: Path,
    comparisons: List[Comparison],
    precisions: Tuple[Precision, ...] = (),
) -> Report:
    found, given = versions(), model.file
    if outcome.cuda is not None and where.provider == CUDA_PROVIDER:
        found["onnxruntime-gpu"] = outcome.cuda.version
    write_notes(folder, row, precisions, found, outcome.library)
    if outcome.engine is not None:
        artifacts.write_engine_note(folder, row, outcome.engine, found, outcome.library)
    overlay = _draw(model, outcome.outputs, folder)
    bisection = None
    if request.searches(TORCH_ONNXRUNTIME):
        bisection = _bisect(model, comparisons, folder)
    return Report(
        row=row.name,
        model=model.name,
        precision=request.precision if precisions else _own_precision(model),
        executor=where.executor,
        stages=tuple(outcome.stages),
        parity=tuple(row for each in comparisons for row in each.parity),
        detections=tuple(row for each in comparisons for row in each.detections),
        engine=outcome.engine,
        artifacts=artifacts.artifact_facts(folder),
        inputs=_inputs(model, where.weights_address),
        versions=found,
        proposals=_proposals(model, outcome.outputs),
        exporter=row.exporter if given is None else None,
        opset=row.opset if given is None else given.facts.opset,
        command=_command(row, request),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        # ru_maxrss is in KiB on Linux.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        overlay=overlay,
        notes=tuple(model.notes),
        warnings=() if outcome.exported is None else outcome.exported.warnings,
        symptoms=(
            *symptoms_of(model, folder / artifacts.ONNX, outcome.outputs, comparisons),
            *size_symptoms(model, folder / artifacts.ONNX, outcome.sized),
        ),
        onnx_file=None if given is None else given.facts,
        simplified=outcome.simplified,
        dimensions=dimensions_of(model),
        sizes=tuple(outcome.sized.parities),
        precisions=precisions,
        preprocess=model.preprocess,
        signature=signature_in(folder / artifacts.ONNX),
        bisection=bisection,
    )


def _bisect(model: Model, comparisons: List[Comparison], folder: Path) -> Bisection:
    """Search for the first node that differs from PyTorch; write its case."""
    from trtyard.pipeline.bisect.bisection import PAIR, bisect

    twin = folder / artifacts.TWIN
    file = twin if twin.is_file() else folder / artifacts.ONNX
    compared = [one for one in comparisons if pair_of(one) == PAIR]
    if not compared:
        return Bisection(PAIR, 0, (), problem="PyTorch and ONNX Runtime were not compared")
    return bisect(model, file, folder, compared[0].passed, _announce)


def _bisect_engine(
    conversion: Conversion, outcome: Outcome, comparisons: List[Comparison], folder: Path
) -> EngineSearch:
    """Search for the first value in which TensorRT differs from ONNX Runtime."""
    from trtyard.pipeline.bisect.engine_bisection import PAIR, bisect_engine, not_searched

    for stage in outcome.stages:
        if stage.name in ("onnxruntime", "engine", "tensorrt") and stage.status != PASSED:
            ended = f"the stage {stage.name} failed" if stage.status == FAILED else "not run"
            return not_searched(f"{ended}: {(stage.reason or '').splitlines()[0]}")
    if (folder / artifacts.TWIN).is_file():
        return not_searched(f"ONNX Runtime ran {artifacts.TWIN}, whose values have other names")
    compared = [one for one in comparisons if pair_of(one) == PAIR]
    if not compared:
        return not_searched("the outputs of ONNX Runtime and TensorRT were not compared")
    file, agrees = folder / artifacts.ONNX, all(one.passed for one in compared)
    is_half = outcome.exported is not None and outcome.exported.has_float16
    looker = conversion.engine_looker()
    return bisect_engine(file, looker.inputs, looker, agrees, is_half, _announce)


def _own_precision(model: Model) -> str:
    return precision_of(model.module) if model.file is None else model.file.precision


def _compare(model: Model, outcome: Outcome) -> List[Comparison]:
    """Compare every pair of runtimes that ran, the earlier one as the reference."""
    outputs = outcome.outputs
    names = list(outputs)
    thresholds = kind_of(model.kind).thresholds
    has_float16 = outcome.exported is not None and outcome.exported.has_float16
    found = [
        compare_outputs(
            model.kind, (first, second), outputs[first], outputs[second], thresholds, has_float16
        )
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    ]
    if outcome.cuda is not None:
        cuda = outcome.cuda
        found.append(
            compare_outputs(
                model.kind, cuda.pair, cuda.reference, cuda.outputs, thresholds, has_float16
            )
        )
    if outcome.unsimplified is not None and "onnxruntime" in outputs:
        pair = (UNSIMPLIFIED, "onnxruntime")
        before, after = outcome.unsimplified, outputs["onnxruntime"]
        found.append(compare_outputs(model.kind, pair, before, after, thresholds, has_float16))
    return found


def _draw(model: Model, outputs: Dict[str, Dict[str, np.ndarray]], folder: Path) -> Optional[str]:
    if not kind_of(model.kind).is_detector or model.picture is None:
        return None
    detections = {}
    for runtime, values in outputs.items():
        try:
            detections[runtime] = detections_in(model.kind, values)[0]
        except ParityError:
            continue  # the comparison has said what is wrong with them
    if not detections:
        return None
    draw_overlay(model.picture.rgb, model.scale, detections, folder / artifacts.OVERLAY)
    return artifacts.OVERLAY


def _inputs(model: Model, weights_address: Optional[str]) -> Inputs:
    picture = model.picture
    return Inputs(
        tensors=tuple(
            TensorInput(name, tuple(value.shape), str(value.dtype).replace("torch.", ""))
            for name, value in zip(model.input_names, model.inputs)
        ),
        image=None
        if picture is None
        else Picture(picture.name, picture.sha256, picture.rgb.shape[1], picture.rgb.shape[0]),
        weights=Weights(model.weights.source, model.weights.sha256, weights_address),
    )


def _proposals(model: Model, outputs: Dict[str, Dict[str, np.ndarray]]) -> Tuple[Proposals, ...]:
    return tuple(
        Proposals(runtime, int(values["proposals"][0]), model.proposal_rows)
        for runtime, values in outputs.items()
        if "proposals" in values
    )


def _command(row: Row, request: ConversionRequest) -> str:
    """Return the command that converts the same again, with the user's paths."""
    words = ["./run", request.task, "--model", request.model, "--trt", row.name]
    known = request.options()
    for name, value in request.given().items():
        if name not in ("model", "plugins") and not known[name].host_only:
            values = value if known[name].is_repeated else [value]
            for each in values:
                words += ["--" + known[name].name] + ([] if known[name].is_flag else [str(each)])
    return " ".join(shlex.quote(shown(word)) for word in words)
