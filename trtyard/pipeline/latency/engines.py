"""TensorRT on one model and batch, ready to be timed, and the time of its layers.

Memory, stream and events are PyTorch's, so that the same code times both.
"""

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import torch

from trtyard.core.errors import ConversionError
from trtyard.core.report import LayerProfile, LayerTime
from trtyard.pipeline.latency.batches import arrays_of
from trtyard.pipeline.latency.clocks import CUDA, captured, milliseconds
from trtyard.pipeline.latency.contenders import Check
from trtyard.pipeline.latency.rounds import Contender, OneRun, reason_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.stages import NotRunError

_SLOWEST = 10
_PROFILED_RUNS = 20
_PLUGIN = "plugin"  # how the inspector's types of plugin layers begin, such as PluginV3


class Engines:
    """The engines of one batch size, each loaded once, until ``stack`` ends."""

    def __init__(self, library: Optional[Path], stack: contextlib.ExitStack) -> None:
        self._library = library
        self._stack = stack
        self._load: Optional[Callable[[Path], Any]] = None
        self._loaded: Dict[Path, Any] = {}

    def load(self, engine_file: Path) -> Any:
        """Return the engine on the device.

        Raises:
            NotRunError: PyTorch finds no device.
            ConversionError: TensorRT refuses the engine.
        """
        if not torch.cuda.is_available():
            raise NotRunError(f"torch {torch.__version__}, which times it, finds no CUDA device")
        if self._load is None:
            from trtyard.pipeline.tensorrt.runner import open_runtime

            self._load = self._stack.enter_context(open_runtime(self._library))
            self._stack.callback(self._loaded.clear)  # before the runtime ends
        if engine_file not in self._loaded:
            self._loaded[engine_file] = self._load(engine_file)
        return self._loaded[engine_file]


def engine_contenders(
    engines: Engines,
    engine_file: Path,
    model: Model,
    precision: str,
    check: Check,
    has_gpu: bool,
) -> List[Contender]:
    """Return TensorRT with plain launches, and on a GPU as a CUDA graph too."""

    @contextlib.contextmanager
    def start(is_graph: bool) -> Iterator[OneRun]:
        check()
        run = _Execution(engines.load(engine_file), arrays_of(model))
        call = captured(run) if is_graph else run
        yield lambda: milliseconds(call, CUDA)

    found = [Contender("tensorrt", precision, CUDA, lambda: start(False))]
    if has_gpu:
        found.append(Contender("tensorrt", precision, CUDA, lambda: start(True), is_graph=True))
    return found


def profile(
    engines: Engines, engine_file: Path, model: Model, precision: str, batch: int
) -> LayerProfile:
    """Return the slowest layers and the plugins' share, or why they are not known."""
    found = LayerProfile(precision, batch)
    try:
        engine = engines.load(engine_file)
        execution = _Execution(engine, arrays_of(model))
        execution()

        def run() -> None:
            for _ in range(_PROFILED_RUNS):
                execution()
            torch.cuda.synchronize()

        times = engine.layer_times(execution.tensors, run)
        layers = engine.layers()
    except Exception as error:
        return found._replace(reason=reason_of(error))
    if times is None:
        return found._replace(reason="this TensorRT has no profiler in Python")
    if not times:
        return found._replace(reason="TensorRT's profiler reported no layer")
    return profile_of(found, {name: ms / _PROFILED_RUNS for name, ms in times.items()}, layers)


def profile_of(
    found: LayerProfile, times: Dict[str, float], layers: Optional[List[Any]]
) -> LayerProfile:
    """Return the profile for milliseconds by layer and the inspector's facts of each layer."""
    described = [each for each in layers or () if isinstance(each, dict)]
    plugins = {
        each.get("Name")
        for each in described
        if str(each.get("LayerType", "")).lower().startswith(_PLUGIN)
    }
    total = sum(times.values())
    share = sum(ms for name, ms in times.items() if name in plugins) / total if total else None
    slowest = sorted(times.items(), key=lambda one: -one[1])[:_SLOWEST]
    return found._replace(
        layers=len(times),
        milliseconds=total,
        plugin_share=share if described else None,
        slowest=tuple(LayerTime(name, ms, name in plugins) for name, ms in slowest),
    )


class _Execution:
    """One run of the engine in PyTorch's current stream, each time it is called."""

    def __init__(self, engine: Any, inputs: Dict[str, np.ndarray]) -> None:
        self.tensors = tensors = engine.tensors()
        profile = tensors.profile_for({name: value.shape for name, value in inputs.items()})
        tensors.start(profile, torch.cuda.current_stream().cuda_stream)
        torch.cuda.synchronize()  # a change of the profile copies in the stream
        self._memory: Dict[str, torch.Tensor] = {}
        for name in filter(tensors.is_input, tensors.names()):
            value = np.ascontiguousarray(inputs[name], dtype=tensors.dtype(name))
            if not tensors.fits(name, value.shape):
                raise ConversionError(f"input {name} {value.shape} does not fit the engine")
            self._memory[name] = torch.from_numpy(value).cuda()
        for name in (name for name in tensors.names() if not tensors.is_input(name)):
            value = np.empty(tensors.shape(name), tensors.dtype(name))
            self._memory[name] = torch.from_numpy(value).cuda()
        for name, memory in self._memory.items():
            tensors.bind(name, memory.data_ptr())

    def __call__(self) -> None:
        if not self.tensors.enqueue(torch.cuda.current_stream().cuda_stream):
            raise ConversionError("the engine failed")
