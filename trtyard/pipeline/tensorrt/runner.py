"""Run an engine on the first CUDA device. Import only where a device exists."""

import contextlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import pycuda.driver as cuda

from trtyard.pipeline.errors import ConversionError
from trtyard.pipeline.explanation import conversion_error
from trtyard.pipeline.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.logger import KeptLog
from trtyard.pipeline.tensorrt.shells import RegisteredShells


class EngineRun(NamedTuple):
    """What came out of one run."""

    outputs: Dict[str, np.ndarray]
    layers: List[Any]  # what the engine inspector says of each layer


class LoadedEngine:
    """An engine on the device, as long as ``open_engine`` lasts."""

    def __init__(self, engine: Any, log: KeptLog) -> None:
        self._engine = engine
        self._log = log

    def inputs(self) -> Dict[str, Tuple[Tuple[int, ...], Any]]:
        """Return each input's shape and numpy type by its name."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {
            name: (tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
            for name in names
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        }

    def run(
        self, inputs: Dict[str, np.ndarray], repeat: int = 1
    ) -> Tuple[Dict[str, np.ndarray], List[float]]:
        """Return the outputs, and how many milliseconds each of ``repeat`` runs took."""
        return _run(self._engine, inputs, self._log, repeat)

    def layers(self) -> List[Any]:
        """Return what the engine inspector says of each layer."""
        return _inspected_layers(self._engine)


def run_engine(
    engine_file: Path, inputs: Dict[str, np.ndarray], library: Optional[Path] = None
) -> EngineRun:
    """Run the engine once with ``inputs``, by tensor name; ``library`` holds its plugins' kernels.

    Raises:
        ConversionError: the runtime refuses the plan, or an input does not fit it.
    """
    with open_engine(engine_file, library) as engine:
        outputs, _milliseconds = engine.run(inputs)
        return EngineRun(outputs, engine.layers())


@contextlib.contextmanager
def open_engine(engine_file: Path, library: Optional[Path] = None) -> Iterator[LoadedEngine]:
    """Load the engine onto the first device; ``ConversionError`` if the runtime refuses it."""
    log = KeptLog()
    kernels = None if library is None else KernelLibrary(library)
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        with RegisteredShells(kernels):
            runtime = trt.Runtime(log)
            engine = runtime.deserialize_cuda_engine(engine_file.read_bytes())
            if engine is None:
                raise conversion_error(
                    f"TensorRT does not load {engine_file.name}:\n{log.last_errors()}",
                    log.last_errors(),
                    otherwise="convert again here: a plan belongs to one TensorRT and GPU",
                )
            yield LoadedEngine(engine, log)
    finally:
        context.pop()


def _run(
    engine: Any, inputs: Dict[str, np.ndarray], log: KeptLog, repeat: int
) -> Tuple[Dict[str, np.ndarray], List[float]]:
    execution = engine.create_execution_context()
    stream = cuda.Stream()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
    memory = {}
    for name in (name for name in names if is_input[name]):
        value = np.ascontiguousarray(inputs[name], dtype=trt.nptype(engine.get_tensor_dtype(name)))
        if not execution.set_input_shape(name, value.shape):
            raise ConversionError(f"input {name} {value.shape} does not fit the engine")
        memory[name] = cuda.mem_alloc(max(value.nbytes, 1))
        cuda.memcpy_htod_async(memory[name], value, stream)
        stream.synchronize()  # value is pageable memory of this turn of the loop
    outputs = {}
    for name in (name for name in names if not is_input[name]):
        shape = tuple(execution.get_tensor_shape(name))
        outputs[name] = np.empty(shape, trt.nptype(engine.get_tensor_dtype(name)))
        memory[name] = cuda.mem_alloc(max(outputs[name].nbytes, 1))
    for name, pointer in memory.items():
        execution.set_tensor_address(name, int(pointer))
    milliseconds = []
    for _ in range(repeat):
        before, after = cuda.Event(), cuda.Event()
        before.record(stream)
        if not execution.execute_async_v3(stream.handle):
            raise conversion_error(f"the engine failed:\n{log.last_errors()}", log.last_errors())
        after.record(stream)
        stream.synchronize()
        milliseconds.append(before.time_till(after))
    for name, value in outputs.items():
        cuda.memcpy_dtoh(value, memory[name])
    return outputs, milliseconds


def _inspected_layers(engine: Any) -> List[Any]:
    inspector = engine.create_engine_inspector()
    words = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers: List[Any] = json.loads(words).get("Layers", [])
    return layers
