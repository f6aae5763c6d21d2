"""Run an engine on the first CUDA device. Import only where a device exists."""

import contextlib
import ctypes
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pycuda.driver as cuda

from trtyard.core.errors import ConversionError
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver import Driver, LayerTimes
from trtyard.pipeline.tensorrt.drivers import this_driver
from trtyard.pipeline.tensorrt.log import Log
from trtyard.pipeline.tensorrt.tensors import Tensors


class EngineRun(NamedTuple):
    """What came out of one run."""

    outputs: Dict[str, np.ndarray]
    layers: Optional[List[Any]]  # the engine's facts about each layer; None if it has none
    at_other_sizes: Sequence[Dict[str, np.ndarray]] = ()  # the outputs of the further runs


class LoadedEngine:
    """An engine on the device, as long as ``open_engine`` lasts."""

    def __init__(self, engine: "trt.ICudaEngine", driver: Driver, log: Log) -> None:
        self._engine = engine
        self._driver = driver
        self._log = log

    def inputs(self) -> Dict[str, Tuple[Tuple[int, ...], Any]]:
        """Return each input's shape and numpy type by its name; of those that vary the usual one.

        The usual shape is the opt of the first optimization profile.
        """
        tensors = self._driver.tensors(self._engine)
        found = {}
        for name in filter(tensors.is_input, tensors.names()):
            shape = tensors.shape(name)
            if -1 in shape:
                _least, shape, _most = tensors.limits(name, 0)
            found[name] = (shape, tensors.dtype(name))
        return found

    def run(
        self, inputs: Dict[str, np.ndarray], repeat: int = 1, watched: Sequence[str] = ()
    ) -> Tuple[Dict[str, np.ndarray], List[float]]:
        """Return the outputs, and how many milliseconds each of ``repeat`` runs took.

        Of several optimization profiles the first one that takes the inputs' shapes is used. The
        debug tensors ``watched`` are among the outputs.
        """
        tensors = self._driver.tensors(self._engine)
        profile = tensors.profile_for({name: value.shape for name, value in inputs.items()})
        stream = cuda.Stream()
        tensors.start(profile, stream.handle)
        stream.synchronize()  # a change of the profile copies in the stream
        memory = {}
        for name in filter(tensors.is_input, tensors.names()):
            value = np.ascontiguousarray(inputs[name], dtype=tensors.dtype(name))
            if not tensors.fits(name, value.shape):
                raise ConversionError(f"input {name} {value.shape} does not fit the engine")
            memory[name] = cuda.mem_alloc(max(value.nbytes, 1))
            cuda.memcpy_htod_async(memory[name], value, stream)
            stream.synchronize()  # value is pageable memory of this turn of the loop
        outputs = {}
        for name in (name for name in tensors.names() if not tensors.is_input(name)):
            outputs[name] = np.empty(tensors.shape(name), tensors.dtype(name))
            memory[name] = cuda.mem_alloc(max(outputs[name].nbytes, 1))
        for name, pointer in memory.items():
            tensors.bind(name, int(pointer))
        kept = self._driver.listen(tensors, watched, _copy_from) if watched else {}
        milliseconds = []
        for _ in range(repeat):
            before, after = cuda.Event(), cuda.Event()
            before.record(stream)
            if not tensors.enqueue(stream.handle):
                said = self._log.last_errors()
                raise ConversionError(f"the engine failed:\n{said}", log=said)
            after.record(stream)
            stream.synchronize()
            milliseconds.append(before.time_till(after))
        for name, value in outputs.items():
            cuda.memcpy_dtoh(value, memory[name])
        outputs.update(kept)
        return outputs, milliseconds

    def layers(self) -> Optional[List[Any]]:
        """Return the engine's facts about each layer; None if it has none."""
        return self._driver.layers(self._engine)

    def tensors(self) -> Tensors:
        """Return the inputs and outputs, for an execution of their own."""
        return self._driver.tensors(self._engine)

    def layer_times(self, tensors: Tensors, run: Callable[[], None]) -> Optional[LayerTimes]:
        """Return the milliseconds of each layer in ``run``; see ``Driver.layer_times``."""
        return self._driver.layer_times(tensors, run)


def run_engine(
    engine_file: Path,
    inputs: Dict[str, np.ndarray],
    library: Optional[Path] = None,
    at_other_sizes: Sequence[Dict[str, np.ndarray]] = (),
    watched: Sequence[str] = (),
) -> EngineRun:
    """Run the engine once with ``inputs``, by tensor name; ``library`` holds its plugins' kernels.

    ``at_other_sizes`` are inputs of further runs. The debug tensors ``watched`` are among the
    outputs of the first run.

    Raises:
        ConversionError: the runtime refuses the plan, or an input does not fit it.
    """
    with open_engine(engine_file, library) as engine:
        outputs, _milliseconds = engine.run(inputs, watched=watched)
        others = [engine.run(each)[0] for each in at_other_sizes]
        return EngineRun(outputs, engine.layers(), others)


def _copy_from(value: np.ndarray, address: int, on_device: bool) -> None:
    """Copy what is at an address into ``value``, after the device has written it."""
    cuda.Context.synchronize()
    if on_device:
        cuda.memcpy_dtoh(value, address)
    else:
        ctypes.memmove(value.ctypes.data, address, value.nbytes)


@contextlib.contextmanager
def open_engine(engine_file: Path, library: Optional[Path] = None) -> Iterator[LoadedEngine]:
    """Load the engine onto the first device; ``ConversionError`` if the runtime refuses it."""
    with open_runtime(library) as load:
        yield load(engine_file)


@contextlib.contextmanager
def open_runtime(library: Optional[Path] = None) -> Iterator[Callable[[Path], LoadedEngine]]:
    """Give a function that loads an engine as ``open_engine`` does, with the plugins registered.

    One at a time: the registry refuses a plugin that is registered.
    """
    driver = this_driver()
    cuda.init()
    primary = cuda.Device(0).retain_primary_context()
    primary.push()
    try:
        with driver.log() as log:
            logger = driver.logger(log)
            with driver.plugins(library, logger):
                runtime = trt.Runtime(logger)

                def load(engine_file: Path) -> LoadedEngine:
                    engine = runtime.deserialize_cuda_engine(engine_file.read_bytes())
                    if engine is None:
                        said = log.last_errors()
                        raise ConversionError(
                            f"TensorRT does not load {engine_file.name}:\n{said}",
                            "convert again here: a plan belongs to one TensorRT and GPU",
                            log=said,
                        )
                    return LoadedEngine(engine, driver, log)

                yield load
    finally:
        primary.pop()
