"""Every reduced precision of one conversion: rewritten, run, built and compared."""

import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import onnx
import torch

from trtyard.core.errors import ConversionError
from trtyard.core.files import write_bytes
from trtyard.core.precisions import BF16, CALIBRATED, FP8, FP16, FP32, file_names
from trtyard.core.report import (
    PRECISION_STAGES,
    RUNTIMES,
    SEEDED,
    Agreement,
    Calibration,
    EngineFacts,
    Precision,
    Stage,
    ValueAccuracy,
)
from trtyard.core.request import ENGINE
from trtyard.core.shown_paths import show_in_model
from trtyard.pipeline import artifacts
from trtyard.pipeline.conversion import Conversion, Outcome, Outputs, outputs_of
from trtyard.pipeline.export.exporter import problem_of
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.onnx_model.symptoms import holds_float16
from trtyard.pipeline.precision.accuracy import Pair, accuracy_of
from trtyard.pipeline.precision.bfloat16 import to_bfloat16, twin_of
from trtyard.pipeline.precision.budgets import SHOWN_FOR_FP32, budget_of
from trtyard.pipeline.precision.calibration import for_quantizer, ranges_of
from trtyard.pipeline.precision.half import Rewritten, prepare, to_half
from trtyard.pipeline.precision.kept import ASKED_FOR, CUSTOM_OP, kept_in_bfloat16
from trtyard.pipeline.precision.patterns import nodes_matching
from trtyard.pipeline.precision.plan import Plan, is_by_builder
from trtyard.pipeline.precision.quantize import quantizable, to_fp8, to_int8
from trtyard.pipeline.precision.timed_run import run_timed
from trtyard.pipeline.row import Row
from trtyard.pipeline.stages import NotRunError, StageBook

_MOST_OUTPUT_BYTES = 1 << 27  # of the held-out samples' outputs, which are compared in float64
_MOST_HELD_OUT_DETECTOR = 4  # a detector in reduced precision takes seconds for each


class Ready(NamedTuple):
    """model.onnx as the rewriters take it, and the reference for every precision."""

    model: onnx.ModelProto
    kept: Mapping[str, str]  # names of the nodes that stay in fp32, with reasons
    asked: Sequence[str]  # those of them that --keep-fp32 names
    inputs: List[Outputs]  # this run's, then the held-out samples
    reference: List[Outputs]  # the outputs for them in fp32, see ``_in_fp32``


def run_precisions(
    row: Row,
    plan: Plan,
    model: Model,
    conversion: Conversion,
    outcome: Outcome,
    folder: Path,
    until: str,
    announce: Callable[[str], None],
) -> Tuple[Precision, ...]:
    """Return fp32's facts and those of every reduced precision; nothing without one.

    Raises:
        UsageError: a pattern of --keep-fp32 matches no node.
    """
    if not plan.names:
        return ()
    found = [_baseline(outcome, folder)]
    first = RUNTIMES[0] if model.file is None else RUNTIMES[1]
    exported = outcome.exported is not None and first in outcome.outputs
    ready = ready_for(row, plan, model, outcome.outputs[first], folder) if exported else None
    for name in plan.names:
        one = OnePrecision(name, row, plan, model, conversion, folder, announce)
        found.append(one.run(ready, until))
    if ready is not None:
        found[0] = _timed(found[0], ready, model, folder)
    return tuple(found)


def write_notes(
    folder: Path,
    row: Row,
    precisions: Sequence[Precision],
    versions: Dict[str, str],
    library: Optional[Path],
) -> None:
    """Write what each reduced engine was built from and with beside it."""
    for each in precisions[1:]:
        if each.engine is not None:
            source = each.file or artifacts.ONNX
            artifacts.write_engine_note(
                folder, row, each.engine, versions, library, each.name, source
            )


def _baseline(outcome: Outcome, folder: Path) -> Precision:
    file, engine = folder / artifacts.ONNX, folder / artifacts.ENGINE
    return Precision(
        FP32,
        tuple(outcome.stages),
        artifacts.ONNX if file.is_file() else None,
        file.stat().st_size if file.is_file() else None,
        artifacts.ENGINE if engine.is_file() else None,
        engine.stat().st_size if engine.is_file() else None,
    )


def _timed(baseline: Precision, ready: Ready, model: Model, folder: Path) -> Precision:
    """Return fp32's facts with the time of ONNX Runtime and the accuracy of what ran."""
    file = folder / artifacts.TWIN
    file = file if file.is_file() else folder / artifacts.ONNX
    try:
        run = run_timed(file, ready.inputs[:1], model.output_names)
    except ConversionError:  # the stage onnxruntime says so
        return baseline
    pair = Pair("onnxruntime", ready.reference[:1], run.outputs)
    found = accuracy_of(model.kind, pair, SHOWN_FOR_FP32, is_trained=False)
    return baseline._replace(seconds=run.seconds, values=found.values, agreements=found.agreements)


def ready_for(row: Row, plan: Plan, model: Model, usual: Outputs, folder: Path) -> Ready:
    """Return what every precision starts from; ``usual`` are the outputs in fp32."""
    whole = onnx.load(str(folder / artifacts.ONNX))
    kind = kind_of(model.kind)
    kept: Dict[str, str] = {}
    asked: List[str] = []
    if not is_by_builder(row):
        kept = prepare(whole.graph, kind.is_detector)
        if plan.keep is not None:
            asked = sorted(nodes_matching(whole.graph, plan.keep))
            # Some custom ops are reduced all the same, but not if they are asked for.
            kept.update(
                (name, ASKED_FOR) for name in asked if kept.get(name, CUSTOM_OP) == CUSTOM_OP
            )
    inputs = [
        {name: value.detach().numpy() for name, value in zip(model.input_names, model.inputs)}
    ]
    reference = [usual]
    if plan.data is not None:
        one = sum(value.nbytes for value in reference[0].values())
        most = max(1, _MOST_OUTPUT_BYTES // max(one, 1))
        if kind.is_detector:
            most = min(most, _MOST_HELD_OUT_DETECTOR)
        for sample in plan.data.held_out[:most]:
            inputs.append(sample)
            reference.append(_in_fp32(model, sample, folder))
    return Ready(whole, kept, asked, inputs, reference)


def _in_fp32(model: Model, sample: Outputs, folder: Path) -> Outputs:
    """Return the reference's outputs: PyTorch's, or ONNX Runtime's for an ONNX file."""
    if model.file is not None:
        twin = folder / artifacts.TWIN
        file = twin if twin.is_file() else folder / artifacts.ONNX
        return run_onnx(file, sample, model.output_names)
    tensors = tuple(torch.from_numpy(sample[name].copy()) for name in model.input_names)
    return outputs_of(model._replace(inputs=tensors))


class OnePrecision:
    """Takes one precision through its stages."""

    def __init__(
        self,
        name: str,
        row: Row,
        plan: Plan,
        model: Model,
        conversion: Conversion,
        folder: Path,
        announce: Callable[[str], None],
    ) -> None:
        self._name = name
        self._row = row
        self._plan = plan
        self._model = model
        self._conversion = conversion
        self._folder = folder
        self._book = StageBook(lambda line: announce(f"{name}, {line}"))
        self._files = file_names(name)
        self._file = folder / self._files["onnx"]
        self._twin: Optional[onnx.ModelProto] = None
        self._calibration: Optional[Calibration] = None
        self._values: List[ValueAccuracy] = []
        self._agreements: List[Agreement] = []
        self._by_builder = is_by_builder(row)
        self._is_trained = not model.weights.source.startswith(SEEDED)
        self._budget = budget_of(name, self._is_trained)

    def run(self, ready: Optional[Ready], until: str) -> Precision:
        """Run every stage that can run."""
        if ready is None:
            for stage in PRECISION_STAGES:
                self._book.leave_out(stage, "needs the stage export, which did not pass")
            return self._facts(None, None, None, {})
        rewritten = self._book.attempt(
            "rewrite", f"write {self._file.name}", lambda: self._rewrite(ready)
        )
        seconds = self._book.attempt(
            "onnxruntime",
            f"run {self._file.name} on the CPU",
            lambda: self._onnxruntime(ready),
            [] if self._by_builder else ["rewrite"],
        )
        kept = self._kept(ready) if self._name not in CALIBRATED else self._not_quantized(ready)
        engine = self._engine(kept, until)
        if until == ENGINE:
            self._book.attempt(
                "tensorrt", "run the engine", lambda: self._tensorrt(ready), ["engine"]
            )
        return self._facts(rewritten, seconds, engine, kept)

    def _kept(self, ready: Ready) -> Dict[str, str]:
        if self._name == BF16:
            return kept_in_bfloat16(ready.model.graph, ready.kept)
        return dict(ready.kept)

    def _not_quantized(self, ready: Ready) -> Dict[str, str]:
        names = {node.name for node in quantizable(ready.model.graph)}
        return {name: ASKED_FOR for name in ready.asked if name in names}

    def _rewrite(self, ready: Ready) -> Rewritten:
        if self._by_builder:
            raise NotRunError(
                f"TensorRT {self._row.tensorrt}'s builder makes {self._name} of model.onnx itself"
            )
        rewritten = self._reduced(ready)
        problem = problem_of(rewritten.model)
        if problem is not None:
            raise ConversionError(f"{self._file.name} is not valid ONNX: {problem}")
        show_in_model(rewritten.model)
        write_bytes(self._file, rewritten.model.SerializeToString())
        if self._name == BF16:
            self._twin = twin_of(ready.model, self._kept(ready))
        return rewritten

    def _reduced(self, ready: Ready) -> Rewritten:
        if self._name == FP16:
            return to_half(ready.model, self._kept(ready))
        if self._name == BF16:
            return to_bfloat16(ready.model, self._kept(ready))
        return self._quantized(ready)

    def model_to_run(self, ready: Ready) -> onnx.ModelProto:
        """Return what ONNX Runtime runs for this precision, without writing a file.

        Raises:
            ConversionError: the model cannot be rewritten.
        """
        if self._name == BF16:
            return twin_of(ready.model, self._kept(ready))
        return self._reduced(ready).model

    def is_within_budget(self, ready: Ready, model: onnx.ModelProto) -> bool:
        """Tell whether the results of ``model`` in ONNX Runtime are within the budget.

        Raises:
            ConversionError: ONNX Runtime cannot run it.
        """
        fused = self._name not in CALIBRATED and self._name != BF16
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "trial.onnx")
            onnx.save(model, str(file))
            run = run_timed(file, ready.inputs, self._model.output_names, fused)
        pair = Pair("onnxruntime", ready.reference, run.outputs)
        found = accuracy_of(self._model.kind, pair, self._budget, self._is_trained)
        return all(one.passed for one in found.values) and all(
            one.passed for one in found.agreements
        )

    def _quantized(self, ready: Ready) -> Rewritten:
        data = self._plan.data
        if data is None:
            raise ConversionError(f"{self._name} needs calibration data", "--calibrate FOLDER")
        present = sum(node.op_type == "QuantizeLinear" for node in ready.model.graph.node)
        if present:
            raise ConversionError(
                f"the model is quantized already: model.onnx has {present} QuantizeLinear nodes, "
                "and its own scales hold",
                "leave out int8 and fp8: the engine of model.onnx computes in int8 where they are",
            )
        if holds_float16(ready.model.graph):
            raise ConversionError(
                f"the model computes in float16 somewhere: {self._name} is made from fp32",
                "export it in fp32: without .half() and autocast",
            )
        if not quantizable(ready.model.graph):
            raise ConversionError(
                "nothing to quantize: there is no Conv, Gemm or MatMul with constant weights",
                f"leave out {self._name}",
            )
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "named.onnx")
            onnx.save(ready.model, str(file))
            # Without a cache that stays, one for this run: fp8 has the ranges of int8.
            cache = self._plan.cache or self._folder / "calibration"
            found = ranges_of(file, data.samples, data.sha256, self._plan.method, cache)
            self._calibration = Calibration(
                data.source,
                data.sha256,
                len(data.samples),
                len(data.held_out),
                self._plan.method,
                found.cached,
            )
            how = "cached" if found.cached else f"by {self._plan.method}"
            self._book.remark(
                "rewrite",
                f"took its ranges from {len(data.samples)} samples of {data.source}, {how}",
            )
            rewritten = to_int8(file, for_quantizer(found), ready.asked)
        if self._name == FP8:
            return rewritten._replace(model=to_fp8(rewritten.model))
        return rewritten

    def _onnxruntime(self, ready: Ready) -> float:
        if self._by_builder:
            raise NotRunError("there is no file of this precision: the builder chooses each type")
        names, inputs = self._model.output_names, ready.inputs
        if self._twin is None:
            run = run_timed(self._file, inputs, names, self._name not in CALIBRATED)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch, "rounded.onnx")
                onnx.save(self._twin, str(file))
                run = run_timed(file, inputs, names, is_fused=False)
            self._book.remark(
                "onnxruntime",
                "ran model.onnx with every tensor rounded to bfloat16: it has no bfloat16 kernels "
                "on the CPU",
            )
        self._compare(Pair("onnxruntime", ready.reference, run.outputs))
        return run.seconds

    def _engine(self, kept: Mapping[str, str], until: str) -> Optional[EngineFacts]:
        if until != ENGINE:
            for name in ("engine", "tensorrt"):
                self._book.leave_out(name, "asked to stop after onnx")
            return None
        source = artifacts.ONNX if self._by_builder else self._file.name
        return self._book.attempt(
            "engine",
            f"build with TensorRT {self._row.tensorrt}",
            lambda: self._conversion.build(source, self._name, sorted(kept)),
            [] if self._by_builder else ["rewrite"],
        )

    def _tensorrt(self, ready: Ready) -> None:
        outputs = [self._conversion.run_engine(self._name, each) for each in ready.inputs[:1]]
        self._compare(Pair("tensorrt", ready.reference[:1], outputs))

    def _compare(self, pair: Pair) -> None:
        found = accuracy_of(self._model.kind, pair, self._budget, self._is_trained)
        self._values += found.values
        self._agreements += found.agreements

    def _facts(
        self,
        rewritten: Optional[Rewritten],
        seconds: Optional[float],
        engine: Optional[EngineFacts],
        kept: Mapping[str, str],
    ) -> Precision:
        stages: Dict[str, Stage] = {stage.name: stage for stage in self._book.stages}
        counts: Dict[str, int] = {}
        for reason in kept.values():
            counts[reason] = counts.get(reason, 0) + 1
        there = self._file.is_file()
        return Precision(
            self._name,
            tuple(stages[name] for name in PRECISION_STAGES),
            self._file.name if there else None,
            self._file.stat().st_size if there else None,
            self._files["engine"] if engine is not None else None,
            None if engine is None else engine.bytes,
            seconds if self._twin is None else None,
            tuple(self._values),
            tuple(self._agreements),
            None if rewritten is None else rewritten.reduced,
            counts,
            self._calibration,
            self._budget.source,
            () if rewritten is None else tuple(rewritten.notes),
            engine,
        )
