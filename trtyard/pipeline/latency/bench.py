"""Time one converted model in every runtime, at each batch size that was asked for."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import torch

from trtyard.core.cuda_device import first_device
from trtyard.core.precisions import BF16, FP8, FP32, file_names
from trtyard.core.report import (
    ONNXRUNTIME_CUDA,
    PASSED,
    TIMED,
    Latency,
    LayerProfile,
    Precision,
    Stage,
    Timing,
)
from trtyard.core.request import ONNX, BenchRequest
from trtyard.pipeline import artifacts
from trtyard.pipeline.conversion import Conversion, CudaSource, Outcome, PluginSource
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.latency.batches import arrays_of, at_batch, batch_of, refuse_same_shapes
from trtyard.pipeline.latency.clocks import CPU, CUDA
from trtyard.pipeline.latency.contenders import (
    Check,
    onnxruntime_contender,
    onnxruntime_cuda_contenders,
    torch_contenders,
)
from trtyard.pipeline.latency.engines import Engines, engine_contenders, profile
from trtyard.pipeline.latency.inductor import temporary_inductor
from trtyard.pipeline.latency.memory import limited_memory
from trtyard.pipeline.latency.rounds import (
    DEFAULT_RUNS,
    DEFAULT_SECONDS,
    Contender,
    Limits,
    measure,
    reason_of,
)
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.one_run import buffers_kept
from trtyard.pipeline.onnxruntime_cuda.process import Asked
from trtyard.pipeline.onnxruntime_cuda.reference import in_full_precision
from trtyard.pipeline.row import Row
from trtyard.pipeline.stages import NotRunError

_CLOCKS = "clocks.sm,clocks.max.sm"
_SMI_SECONDS = 10
_NEEDED = re.compile(r"needs the stage (\w+), which")  # as the book of stages says it
Record = TypeVar("Record", Timing, LayerProfile)


class Subject(NamedTuple):
    """A conversion that has run: what is timed."""

    row: Row
    model: Model
    plugins: PluginSource
    folder: Path  # with its files
    outcome: Outcome
    precisions: Tuple[Precision, ...] = ()
    own_precision: str = FP32  # of the model as it was given
    cuda: Optional[CudaSource] = None  # of --runtime

    @property
    def kernels(self) -> Optional[Path]:
        """The library of PyTorch's custom ops on a GPU; that of --runtime is made for this one."""
        ran = self.outcome.cuda
        return self.outcome.library if ran is None or ran.library is None else ran.library

    def stages_of(self, precision: str) -> Sequence[Stage]:
        """Return the stages of one precision; none if its files are not there."""
        if precision == FP32:
            return self.outcome.stages
        return next((one.stages for one in self.precisions if one.name == precision), ())


def bench(subject: Subject, request: BenchRequest, announce: Callable[[str], None]) -> Latency:
    """Return the times of every runtime at every batch size, or why one was not run."""
    own = batch_of(subject.model)
    batches = sorted(map(int, request.batch.split(","))) if request.batch else [own]
    limits = Limits(request.runs or DEFAULT_RUNS, request.seconds or DEFAULT_SECONDS)
    load = os.getloadavg()[0]
    device = CUDA if torch.cuda.is_available() else CPU
    timings: List[Timing] = []
    profiles: List[LayerProfile] = []
    with _as_timed(subject.kernels, device):
        for batch in batches:
            announce(
                f"latency: batch {batch}, each runtime {limits.runs} times or for "
                f"{limits.seconds} s"
            )
            of_batch = _Batch(subject, request, batch, device)
            timings += of_batch.timings(limits)
            profiles += of_batch.profiles
    gpu = first_device()
    return Latency(
        processor=_processor(),
        threads=torch.get_num_threads(),
        load=load,
        gpu=None if gpu is None else gpu.name,
        clocks=_gpu_clocks() if gpu is not None else None,
        rounds=limits.rounds,
        timings=tuple(_named(subject, each) for each in timings),
        profiles=tuple(_named(subject, each) for each in profiles),
    )


class _Batch:
    """One batch size: its model, its files, and every runtime on them."""

    def __init__(self, subject: Subject, request: BenchRequest, batch: int, device: str) -> None:
        self._subject = subject
        self._request = request
        self._batch = batch
        self._device = device
        self._precisions = request.precision.split(",")
        self.profiles: List[LayerProfile] = []

    def timings(self, limits: Limits) -> List[Timing]:
        """Return the times of every runtime, or why each was not run."""
        with contextlib.ExitStack() as stack:
            if first_device() is None:  # CUDA reserves far more addresses than it uses
                stack.enter_context(limited_memory())
            # Runtimes and the user's code print, some in every run.
            stack.enter_context(output_kept_away())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            try:
                subject = self._prepared(stack)
            except (Exception, SystemExit) as error:  # the user's code may raise anything
                return self._not_run(reason_of(error))
            stack.enter_context(buffers_kept(subject.model.module))
            stack.callback(subject.model.module.cpu)
            engines = Engines(subject.outcome.library, stack)
            found = measure(self._contenders(subject, engines), self._batch, limits)
            self.profiles = self._profiles(subject, engines)
            return found

    def _prepared(self, stack: contextlib.ExitStack) -> Subject:
        """Return the conversion for this batch size: the given one, or another of its own."""
        given = self._subject
        batched = at_batch(given.model, self._request, self._batch)
        if batched.is_in_files:
            return given._replace(model=batched.model)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=str(given.folder))))
        conversion = Conversion(
            given.row, batched.model, folder, given.plugins, _unannounced, cuda=given.cuda
        )
        # Without a device that runs it, an engine is not worth its time.
        until = self._request.until if self._runs_engines() else ONNX
        outcome = conversion.run(until, FP32 in self._precisions)
        first = "onnxruntime" if given.model.file is not None else "torch"
        before, after = (one.outputs.get(first) for one in (given.outcome, outcome))
        if before and after:
            refuse_same_shapes(before, after, batch_of(given.model), self._batch)
        own = Subject(given.row, batched.model, given.plugins, folder, outcome)
        return own._replace(cuda=given.cuda)

    def _runs_engines(self) -> bool:
        """Return whether the fp32 engine of the given conversion ran."""
        stages = self._subject.outcome.stages
        return any(one.name == "tensorrt" and one.status == PASSED for one in stages)

    def _contenders(self, subject: Subject, engines: Engines) -> List[Contender]:
        note = None
        exported = subject.outcome.exported
        if self._device == CUDA and subject.kernels is None and exported and exported.custom_ops:
            note = "without the compiled kernels, the custom ops run as PyTorch code"
        check = self._check(subject, FP32, "torch")
        found = torch_contenders(subject.model, self._device, check, note)
        for precision in self._precisions:
            found.append(self._onnxruntime(subject, precision))
        if subject.cuda is not None:
            for precision in self._precisions:
                found += self._onnxruntime_cuda(subject, subject.cuda, precision)
        for precision in self._precisions:
            found += engine_contenders(
                engines,
                subject.folder / file_names(precision)["engine"],
                subject.model,
                precision,
                self._check(subject, precision, "tensorrt"),
                self._device == CUDA,
            )
        return found

    def _onnxruntime(self, subject: Subject, precision: str) -> Contender:
        file = subject.folder / file_names(precision)["onnx"]
        twin = subject.folder / artifacts.TWIN
        is_twin = precision == FP32 and twin.is_file()
        contender = onnxruntime_contender(
            twin if is_twin else file,
            subject.model,
            precision,
            self._check(subject, precision, "onnxruntime"),
            self._device == CUDA,
            is_fused=precision != FP8,  # whose fused kernels give wrong results, see run_timed
        )
        return contender._replace(note=f"ran {twin.name}") if is_twin else contender

    def _onnxruntime_cuda(
        self, subject: Subject, source: CudaSource, precision: str
    ) -> List[Contender]:
        ran, exported = subject.outcome.cuda, subject.outcome.exported
        of_file, of_stage = (
            self._check(subject, *each)
            for each in ((precision, "rewrite"), (FP32, ONNXRUNTIME_CUDA))
        )

        def check() -> None:
            of_stage()
            if precision != FP32:
                of_file()

        twin = subject.folder / artifacts.TWIN
        is_twin = precision == FP32 and twin.is_file()
        asked = Asked(
            twin if is_twin else subject.folder / file_names(precision)["onnx"],
            arrays_of(subject.model),
            threads=torch.get_num_threads(),
            packages=source.packages,
            provider=source.provider,
        )
        library = None if ran is None else ran.library
        has_ops = ran is not None and exported is not None and bool(exported.custom_ops)
        return onnxruntime_cuda_contenders(asked, library, has_ops, precision, check)

    def _check(self, subject: Subject, precision: str, stage: str) -> Check:
        """Return a function that raises NotRunError unless the stage passed."""

        def check() -> None:
            if stage == "tensorrt":  # another engine is built only if the given one ran
                _require(self._subject.stages_of(precision), stage)
            stages = subject.stages_of(precision)
            if not stages:
                raise NotRunError(
                    f"the {precision} file has batch {batch_of(self._subject.model)}; give a range "
                    "such as --input 1..8x3x224x224 to time it at others"
                )
            if precision == BF16 and stage == "onnxruntime":
                raise NotRunError("ONNX Runtime has no bfloat16 kernels on the CPU")
            _require(stages, stage)

        return check

    def _profiles(self, subject: Subject, engines: Engines) -> List[LayerProfile]:
        """Return the layers of each engine that ran."""
        found = []
        for precision in self._precisions:
            try:
                self._check(subject, precision, "tensorrt")()
            except NotRunError:
                continue  # its timings say so
            engine = subject.folder / file_names(precision)["engine"]
            found.append(profile(engines, engine, subject.model, precision, self._batch))
        return found

    def _not_run(self, reason: str) -> List[Timing]:
        asked = () if self._subject.cuda is None else (ONNXRUNTIME_CUDA,)
        return [
            Timing(runtime, precision, self._batch, self._device, reason=reason)
            for runtime in (*TIMED, *asked)
            for precision in (self._precisions if runtime in TIMED[2:] else [FP32])
        ]


def _require(stages: Sequence[Stage], name: str) -> None:
    """Raise NotRunError unless the stage passed, with the reason of the first that did not."""
    by_name = {one.name: one for one in stages}
    reason = by_name[name].reason or f"the stage {name} did not pass"
    if by_name[name].status == PASSED:
        return
    needed = _NEEDED.match(reason)
    if needed is not None:
        _require(stages, needed.group(1))
    raise NotRunError(reason)


@contextlib.contextmanager
def _as_timed(library: Optional[Path], device: str) -> Iterator[None]:
    """Have torch.compile leave no files, and on a GPU fp32 be fp32 and ops run as kernels."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(temporary_inductor())
        if device == CUDA:
            stack.enter_context(in_full_precision(library))  # as in the engine
        yield


def _named(subject: Subject, each: Record) -> Record:
    """Return a record with the model's own precision where it has none of --precision."""
    own = FP32 if subject.precisions else subject.own_precision
    return each._replace(precision=own) if each.precision == FP32 else each


def _unannounced(_line: str) -> None:
    pass


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{os.cpu_count()} cores"


def _gpu_clocks() -> Optional[str]:
    """Return the first GPU's clock now and at most, as nvidia-smi says; None without it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", f"--query-gpu={_CLOCKS}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.check_output(query, timeout=_SMI_SECONDS, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    now, _, most = said.decode().strip().partition(", ")
    return f"{now} of {most}"
