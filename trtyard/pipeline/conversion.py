"""One model through every stage: torch, ONNX, ONNX Runtime, plugins, engine, TensorRT."""

import importlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import torch

from trtyard.core.cuda_device import Device
from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.files import write_json
from trtyard.core.precisions import FP32, file_names, lacking_on
from trtyard.core.report import (
    ONNXRUNTIME_CUDA,
    SIMPLIFY,
    TORCH_CUDA,
    EngineFacts,
    Simplified,
    Stage,
)
from trtyard.core.request import ENGINE, ONNX
from trtyard.core.toolchains import RTX
from trtyard.pipeline import artifacts
from trtyard.pipeline.bisect.looking import EngineLooker
from trtyard.pipeline.dynamic.comparison import SizedRuns, in_words, profile_shapes
from trtyard.pipeline.export.exporter import Exported, export_model, export_onnx
from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.export.twin import needs_twin, write_twin
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.flat_outputs import unwrapped
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.not_numbers import bad_variances, first_nan_noted, spoilt_tensors
from trtyard.pipeline.models.one_run import buffers_kept, run_once
from trtyard.pipeline.onnx_model.given_file import inputs_of, read_given
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.onnx_model.simplify import simplify
from trtyard.pipeline.onnx_model.take_file import refuse_unknown_ops, take
from trtyard.pipeline.onnx_model.versions import CUDA_PROVIDER
from trtyard.pipeline.onnxruntime_cuda.reference import in_full_precision
from trtyard.pipeline.row import Row
from trtyard.pipeline.stages import NotRunError, StageBook
from trtyard.pipeline.torch_support.patches import patched_files, releases_of, symbolics

Outputs = Dict[str, np.ndarray]
_MOST_NAMES = 3  # in a note

# Module, inputs and the names of inputs and outputs.
Subject = Tuple[torch.nn.Module, Sequence[torch.Tensor], Sequence[str], Sequence[str]]


class PluginSource(NamedTuple):
    """Where the compiled kernels come from: a library, or sources and a folder for the result."""

    library: Optional[Path]
    sources: Path
    cache: Path


class CudaSource(NamedTuple):
    """Where --runtime onnxruntime-cuda comes from."""

    packages: Optional[Path] = None  # folder with onnxruntime-gpu; None: in this environment
    library: Optional[Path] = None  # the kernels; None: compiled for this GPU
    headers: Optional[Path] = None  # of ONNX Runtime, to compile them
    provider: str = CUDA_PROVIDER  # tests run the same on the CPU


class CudaRun(NamedTuple):
    """model.onnx in ONNX Runtime on the GPU, and what it is compared with."""

    pair: Tuple[str, str]
    reference: Outputs
    outputs: Outputs
    version: str  # of onnxruntime-gpu
    library: Optional[Path]  # the kernels; None: the model has no custom ops


class Outcome(NamedTuple):
    """What every stage gave; None where it gave nothing."""

    stages: List[Stage]
    outputs: Dict[str, Outputs]  # by runtime, in the order they ran
    exported: Optional[Exported]
    engine: Optional[EngineFacts]
    library: Optional[Path]
    sized: SizedRuns  # of a dynamic model
    simplified: Optional[Simplified] = None
    unsimplified: Optional[Outputs] = None  # of ONNX Runtime, before --simplify
    cuda: Optional[CudaRun] = None  # None without --runtime, or if it did not run


class Conversion:
    """Takes one model through the stages, writing into ``folder``."""

    def __init__(
        self,
        row: Row,
        model: Model,
        folder: Path,
        plugins: PluginSource,
        announce: Callable[[str], None],
        simplified: bool = False,
        earlier: Optional[Mapping[str, float]] = None,
        exported: Optional[Path] = None,
        cuda: Optional[CudaSource] = None,
    ) -> None:
        self._row = row
        self._model = model
        self._folder = folder
        self._plugins = plugins
        self._book = StageBook(announce, earlier)
        # Copies: a module that changes its input in place must not change another runtime's.
        self._inputs = {
            name: value.detach().numpy().copy()
            for name, value in zip(model.input_names, model.inputs)
        }
        self._sized = SizedRuns(model)
        self._exported: Optional[Exported] = None
        self._library: Optional[Path] = None
        self._asked_to_simplify = simplified
        self._unsimplified: Optional[Outputs] = None
        self._given_export = exported  # a file of the model, in place of the export
        self._cuda = cuda

    def run(self, until: str = ENGINE, builds: bool = True) -> Outcome:
        """Run every stage that can run, up to what ``until`` names.

        Without ``builds`` there is no engine in fp32: only others were asked for.
        """
        attempt, row = self._book.attempt, self._row
        outputs, needs = self._make_onnx()
        simplified = None
        if self._asked_to_simplify:
            doing = "fold constants and remove redundant nodes"
            simplified = attempt(SIMPLIFY, doing, self._simplify, needs)
            needs = [SIMPLIFY]
        outputs["onnxruntime"] = attempt(
            "onnxruntime", "run model.onnx on the CPU", self._onnxruntime, needs
        )
        cuda = None
        if self._cuda is not None:
            source, cpu = self._cuda, outputs["onnxruntime"]
            cuda = attempt(
                ONNXRUNTIME_CUDA,
                "run model.onnx on the GPU",
                lambda: self._onnxruntime_cuda(source, outputs.get("torch"), cpu),
                needs if self._model.file is None else ["onnxruntime"],
            )
        engine = None
        if until == ONNX:
            for name in ("plugins", "engine", "tensorrt"):
                self._book.leave_out(name, "asked to stop after onnx")
        else:
            self._library = attempt("plugins", "compile the CUDA kernels", self._compile, needs)
            doing = f"build with TensorRT {row.tensorrt}"
            if builds:
                engine = attempt("engine", doing, self.build, needs)
                outputs["tensorrt"] = attempt(
                    "tensorrt", "run the engine", self.run_engine, ["engine"]
                )
            else:
                for name in ("engine", "tensorrt"):
                    self._book.leave_out(name, "--precision does not ask for fp32")
        return Outcome(
            self._book.stages,
            {name: values for name, values in outputs.items() if values},
            self._exported,
            engine,
            self._library,
            self._sized,
            simplified,
            self._unsimplified,
            cuda,
        )

    def _make_onnx(self) -> Tuple[Dict[str, Optional[Outputs]], List[str]]:
        """Write model.onnx; return PyTorch's outputs by runtime, and the stages that others need.

        Raises:
            UsageError: the model is an ONNX file, and not valid ONNX.
        """
        attempt, row, given = self._book.attempt, self._row, self._model.file
        if given is None:
            doing = f"run {self._model.name} on the CPU"
            outputs = {"torch": attempt("torch", doing, self._torch)}
            doing, action = f"{row.exporter} exporter, opset {row.opset}", self._export
            if self._given_export is not None:
                doing, action = f"take {self._given_export.name}", self._take_export
            self._exported = attempt("export", doing, action, ["torch"])
            return outputs, ["export"]
        for name in ("torch", "export"):
            self._book.leave_out(name, "the model is an ONNX file")
        file, data = self._folder / artifacts.ONNX, self._folder / artifacts.ONNX_DATA
        self._exported = take(given.content, given.path, self._shapes(), file, data)
        return {}, []

    def _simplify(self) -> Simplified:
        file, data = self._folder / artifacts.ONNX, self._folder / artifacts.ONNX_DATA
        if self._model.file is not None:
            refuse_unknown_ops(file)
        why = None if self._exported is None else needs_twin(self._exported)
        if why is not None:
            raise ConversionError(
                f"ONNX Runtime cannot simplify a file that it cannot run: {why}",
                "leave out --simplify, or export at opset 16 or newer",
            )
        self._unsimplified = run_onnx(file, self._inputs, self._model.output_names)
        return simplify(file, data)

    def _torch(self) -> Outputs:
        outputs = self._run_torch(self._model)
        remark = self._sized.compute_references(self._run_torch, outputs)
        if remark is not None:
            self._book.remark("torch", remark)
        return outputs

    def _run_torch(self, model: Model) -> Outputs:
        # A detector drops boxes that are NaN: its outputs do not show what its layers do.
        watched = kind_of(model.kind).is_detector
        layers = unwrapped(model.module) if watched else torch.nn.Module()
        with first_nan_noted(layers) as first:
            outputs, changed = _run(model)
        self._refuse_nan(model, outputs, first)
        if changed:
            self._book.remark(
                "torch",
                f"finds buffers changed by the model's forward ({_listed(changed)}): the file "
                "gives what a first run gives, and keeps nothing for the next",
            )
        return outputs

    def _refuse_nan(self, model: Model, outputs: Outputs, first: List[str]) -> None:
        """Raise ConversionError where PyTorch computes NaN: to agree with that is no pass."""
        spoilt = [name for name, value in outputs.items() if _has_nan(value)]
        if not spoilt and not first:
            return
        module = unwrapped(model.module)
        if not first:
            with first_nan_noted(module) as first:
                _run(model)
        lines = [f"the model computes NaN in PyTorch itself: {_listed(spoilt or first)}"]
        if first and spoilt:
            lines.append(f"  the first layer to give NaN: {first[0]}")
        lines += [f"  NaN or infinity in {name}" for name in spoilt_tensors(module)[:_MOST_NAMES]]
        lines += [f"  {line}" for line in bad_variances(module)[:_MOST_NAMES]]
        raise ConversionError(
            "\n".join(lines),
            "use weights and inputs for which the model returns numbers: NaN cannot be compared",
        )

    def _export(self) -> Exported:
        row, file = self._row, self._folder / artifacts.ONNX
        releases = releases_of(row)
        with symbolics(patched=True, releases=releases):
            exported = export_onnx(
                *self._subject(),
                row.exporter,
                row.opset,
                file,
                may_be_invalid=bool(patched_files(releases)),
                axes=self._sized.axes(),
            )
        remarks = []
        if exported.unused:
            names = ", ".join(exported.unused)
            remarks.append(f"leaves out {names}, on which no output depends in the trace")
        if exported.invalid is not None:
            remarks.append(f"is by a patched exporter, and not valid ONNX: {exported.invalid}")
        if remarks:
            self._book.remark("export", "; ".join(remarks))
        return exported

    def _take_export(self) -> Exported:
        """Take the file that was given as an export of the model.

        Raises:
            UsageError: its inputs or outputs are not the model's.
        """
        source, content = read_given(str(self._given_export), "--onnx")
        for what, own, names in (
            ("inputs", {one.name for one in inputs_of(content)}, self._model.input_names),
            ("outputs", {one.name for one in content.graph.output}, self._model.output_names),
        ):
            if own - set(names) if what == "inputs" else own != set(names):
                raise UsageError(
                    f"--onnx {source.name} has the {what} {', '.join(sorted(own))}, and "
                    f"{self._model.name} has {', '.join(names)}",
                    "give a file that ./run convert exported from this model",
                )
        file, data = self._folder / artifacts.ONNX, self._folder / artifacts.ONNX_DATA
        return take(content, source, self._shapes(), file, data)

    def _shapes(self) -> Dict[str, Tuple[Union[int, str], ...]]:
        """Return the inputs' shapes, with names for the dimensions that vary."""
        return {
            name: tuple(axes.get(index, size) for index, size in enumerate(value.shape))
            for (name, value), axes in zip(self._inputs.items(), self._input_axes())
        }

    def _subject(self) -> Subject:
        model = self._model
        return model.to_export, self._sized.traced()[1], model.input_names, model.output_names

    def _input_axes(self) -> Sequence[Mapping[int, str]]:
        """Return the names of the dimensions that vary, for each input."""
        dynamic = self._model.dynamic
        return [{} for _ in self._model.inputs] if dynamic is None else dynamic.axes

    def _onnxruntime(self) -> Outputs:
        if self._model.file is not None:
            return self._onnxruntime_alone()
        file = self._file_to_run()

        def run(inputs: Outputs) -> Outputs:
            with output_kept_away():  # ONNX Runtime prints its errors, which it raises as well
                return run_onnx(file, inputs, self._model.output_names)

        if self._model.dynamic is not None:
            return self._sized.compare("onnxruntime", run, self._has_float16)
        return run_onnx(file, self._inputs, self._model.output_names)

    def _onnxruntime_alone(self) -> Outputs:
        """Run an ONNX file at every size; the outputs are the reference for TensorRT."""
        refuse_unknown_ops(self._folder / artifacts.ONNX)
        file = self._file_to_run()

        def run(model: Model) -> Outputs:
            inputs = {
                name: value.numpy().copy() for name, value in zip(model.input_names, model.inputs)
            }
            outputs = run_onnx(file, inputs, model.output_names)
            self._judge_alone(outputs)
            return outputs

        outputs = run(self._model)
        remark = self._sized.compute_references(run, outputs)
        sizes = "; ".join(in_words(each.size.sizes) for each in self._sized.references)
        if sizes:
            ran = f"ran at {sizes}"
            self._book.remark("onnxruntime", ran if remark is None else f"{ran}; {remark}")
        return outputs

    def _judge_alone(self, outputs: Outputs) -> None:
        """Check outputs that no other runtime's may be compared with.

        Raises:
            ConversionError: one of them holds NaN.
        """
        spoilt = [name for name, value in outputs.items() if _has_nan(value)]
        if spoilt:
            raise ConversionError(
                f"the file computes NaN in ONNX Runtime: {_listed(spoilt)}",
                "use inputs for which the model returns numbers, --input FILE.npz: NaN cannot be "
                "compared",
            )
        infinite = [
            name
            for name, value in outputs.items()
            if value.dtype.kind == "f" and not np.isfinite(value).all()
        ]
        if infinite:
            self._book.remark("onnxruntime", f"gives infinity in {_listed(infinite)}")

    def _onnxruntime_cuda(
        self, source: CudaSource, torch_outputs: Optional[Outputs], cpu: Optional[Outputs]
    ) -> CudaRun:
        """Run the file on the GPU, and PyTorch there too; an ONNX file is its own reference."""
        from trtyard.core.cuda_device import first_device, usable_device
        from trtyard.pipeline.onnxruntime_cuda.process import Asked, running

        device, is_cuda = first_device(), source.provider == CUDA_PROVIDER
        if is_cuda and device is None:
            raise NotRunError(usable_device(())[1])
        library, twin = self._kernels(source, device), self._folder / artifacts.TWIN
        asked = Asked(
            twin if twin.is_file() else self._folder / artifacts.ONNX,
            self._inputs,
            library,
            threads=torch.get_num_threads(),
            packages=source.packages,
            provider=source.provider,
        )
        with running(asked) as ran:
            outputs, version = ran.outputs, ran.version
        remarks = [f"ran in onnxruntime {version}"]
        if self._exported is not None and self._exported.custom_ops:
            kernels = "the function bodies" if library is None else f"the kernels of {library.name}"
            remarks[0] += f" with {kernels}"
        pair, reference = ("onnxruntime", ONNXRUNTIME_CUDA), cpu
        if self._model.file is None:
            pair = (TORCH_CUDA, ONNXRUNTIME_CUDA)
            try:
                with in_full_precision(library if is_cuda else None):
                    reference = _run_on("cuda" if is_cuda else "cpu", self._model)
            except ConversionError as error:  # tensors of its own on the CPU, or too little memory
                pair, reference = ("torch", ONNXRUNTIME_CUDA), torch_outputs
                why = ": ".join(line.strip() for line in error.message.splitlines())
                remarks.append(f"is compared with PyTorch on the CPU, because {why}")
        self._book.remark(ONNXRUNTIME_CUDA, "; ".join(remarks))
        return CudaRun(pair, reference or {}, outputs, version, library)

    def _kernels(self, source: CudaSource, device: Optional[Device]) -> Optional[Path]:
        """Return the library of the file's custom ops; compile it for this GPU if none is given."""
        if self._exported is not None and not self._exported.custom_ops:
            return None
        if source.library is not None or device is None or source.headers is None:
            return source.library
        from trtyard.core.plugins.compile_plugins import ONNXRUNTIME_LIBRARY_NAME, compile_plugins

        architecture = device.compute_capability.replace(".", "")
        folder = self._plugins.cache / f"onnxruntime-{architecture}"
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / ONNXRUNTIME_LIBRARY_NAME
        sources, headers = self._plugins.sources, source.headers
        return compile_plugins(sources, library, [architecture], headers=headers).library

    @property
    def _has_float16(self) -> bool:
        return self._exported is not None and self._exported.has_float16

    def _file_to_run(self) -> Path:
        """Return the exported file, or a twin that was made because ONNX Runtime cannot run it."""
        file, twin = self._folder / artifacts.ONNX, self._folder / artifacts.TWIN
        exported = self._exported
        why = None if exported is None else needs_twin(exported)
        if exported is None or why is None:
            return file
        origin = write_twin(exported, file, twin, self._export_at)
        self._book.remark("onnxruntime", f"ran {twin.name} ({origin}), because {why}")
        return twin

    def _export_at(self, opset: int) -> onnx.ModelProto:
        """Export as torch was published: what its patches write is for TensorRT's parser alone.

        Raises:
            ConversionError: the model is an ONNX file, which cannot be exported again.
        """
        if self._model.file is not None:
            raise ConversionError(
                "ONNX Runtime cannot run the custom ops at this opset, which is too old for their "
                "functions",
                "export the file again at opset 16 or newer",
            )
        with symbolics(patched=False, releases=releases_of(self._row)):
            axes = self._sized.axes()
            return export_model(*self._subject(), self._row.exporter, opset, axes)[0]

    def _compile(self) -> Path:
        if self._exported is not None and not self._exported.custom_ops:
            raise NotRunError("the model has no custom ops")
        if self._plugins.library is not None:
            return self._plugins.library
        from trtyard.core.plugins.compile_plugins import compile_plugins

        library = self._plugins.cache / "libtrtyard_plugins.so"
        return compile_plugins(self._plugins.sources, library, self._row.architectures).library

    def build(
        self, onnx_name: str = artifacts.ONNX, precision: str = FP32, kept: Sequence[str] = ()
    ) -> EngineFacts:
        """Build the engine of ``precision`` from the file of that name; see ``build_engine``."""
        row = self._row
        if row.flavour != RTX:
            self._require_full_tensorrt()
        from trtyard.pipeline.tensorrt.engine import build_engine

        if self._exported is not None and self._exported.custom_ops and self._library is None:
            self._book.remark(
                "engine",
                "is built without the plugins' kernels, so without their scratch memory: "
                "it loads, but cannot run",
            )
        file, engine = self._folder / onnx_name, self._folder / file_names(precision)["engine"]
        try:
            profiles = profile_shapes(self._model)
            return build_engine(file, engine, self._library, profiles, precision, kept)
        except ConversionError as error:
            from trtyard.pipeline.onnx_model.operator_check import with_place

            raise with_place(error, file, self._inputs) from error

    def _require_full_tensorrt(self) -> None:
        """See that full TensorRT can build here: it times what it may choose from on the GPU."""
        from trtyard.core.cuda_device import usable_device

        release = f"TensorRT {self._row.tensorrt}"
        device, reason = usable_device(self._row.runs_on)
        if device is None:
            raise NotRunError(f"{release} builds engines on the GPU that they are for: {reason}")
        try:
            importlib.import_module("trtyard.pipeline.tensorrt.api")
        except ImportError as error:
            raise NotRunError(f"{release} is not in this environment: {error}") from error

    def engine_looker(self) -> EngineLooker:
        """Return what looks at intermediate values of the fp32 engine, with this run's inputs."""
        return EngineLooker(
            self._folder / artifacts.ONNX,
            self._folder / artifacts.ENGINE,
            self._inputs,
            self._library,
            profile_shapes(self._model),
        )

    def run_engine(self, precision: str = FP32, inputs: Optional[Outputs] = None) -> Outputs:
        """Run the engine of ``precision`` on the given inputs, or on this run's."""
        from trtyard.core.cuda_device import usable_device

        device, reason = usable_device(self._row.runs_on)
        if device is None:
            raise NotRunError(reason)
        lacking = lacking_on(precision, device.compute_capability)
        if lacking is not None:
            raise NotRunError(lacking)
        if self._exported is not None and self._exported.custom_ops and self._library is None:
            raise NotRunError("needs the stage plugins, which did not pass")
        try:
            from trtyard.pipeline.tensorrt.runner import run_engine
        except ImportError as error:
            why = self._row.pycuda_problem or str(error)
            raise NotRunError(f"pycuda is not in this environment: {why}") from error
        names = file_names(precision)
        # The sizes of a dynamic model are compared in fp32 alone.
        references = self._sized.references if precision == FP32 else []
        others = [self._sized.inputs_of(each) for each in references[1:]]
        engine = self._folder / names["engine"]
        run = run_engine(engine, inputs or self._inputs, self._library, others)
        for reference, own in zip(references, [run.outputs, *run.at_other_sizes]):
            self._sized.judge("tensorrt", reference, own, self._has_float16)
        if run.layers is not None:
            write_json(self._folder / names["layers"], run.layers)
        return run.outputs


def outputs_of(model: Model) -> Outputs:
    """Return what the model computes in PyTorch from this run's inputs, by the outputs' names.

    Raises:
        ConversionError: it fails, or does not return the tensors that it is said to.
    """
    return _run(model)[0]


def _run(model: Model) -> Tuple[Outputs, List[str]]:
    """Return the outputs, and the names of the buffers that the run changed."""
    with buffers_kept(model.module) as changed:
        with explained("the model fails in PyTorch itself"):
            values = run_once(model.module, model.inputs)
        outputs = _named(values, model.output_names)
    return outputs, changed


def _run_on(device: str, model: Model) -> Outputs:
    """Return what the model computes on that device; it is on the CPU again afterwards."""
    with buffers_kept(model.module), explained(f"PyTorch fails on {device}"):
        try:
            module = model.module.to(device)
            values = run_once(module, [value.to(device) for value in model.inputs])
            return _named(values, model.output_names)
        finally:
            model.module.cpu()
            if device == "cuda":
                torch.cuda.empty_cache()  # for the other process


def _named(values: Any, names: Sequence[str]) -> Outputs:
    tensors = values if isinstance(values, (tuple, list)) else [values]
    if len(tensors) != len(names) or not all(isinstance(each, torch.Tensor) for each in tensors):
        kinds = ", ".join(type(each).__name__ for each in tensors)
        raise ConversionError(
            f"the model returns ({kinds}), not {len(names)} tensor(s)",
            "return a tensor or a tuple of tensors",
        )
    # Copies: an output may be a buffer of the module or one of its inputs.
    return {name: each.detach().cpu().numpy().copy() for name, each in zip(names, tensors)}


def _has_nan(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).any())


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
