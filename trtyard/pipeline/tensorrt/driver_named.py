"""What TensorRT 8.5 and newer and TensorRT for RTX have in common."""

import contextlib
import json
from typing import Any, Callable, ContextManager, Iterator, List, Optional

from trtyard.core.precisions import FP32
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver import Driver, LayerTimes
from trtyard.pipeline.tensorrt.log import Log
from trtyard.pipeline.tensorrt.logger import KeptLog
from trtyard.pipeline.tensorrt.tensors import Tensors
from trtyard.pipeline.tensorrt.tensors_by_name import TensorsByName


class NamedTensorsDriver(Driver):
    """Tensors by name, plans built as such, an engine inspector, loggers written in Python.

    The workspace is limited by the device's memory alone, from 8.4 on.
    """

    def log(self) -> ContextManager[Log]:
        """Keep what TensorRT says in the block."""
        return _kept_log()

    def logger(self, log: Log) -> "trt.ILogger":
        """Return the log itself, which is a logger."""
        if not isinstance(log, KeptLog):
            raise TypeError(f"{log!r} is not of this driver's log()")
        return log

    def configure(
        self,
        config: "trt.IBuilderConfig",
        precision: str = FP32,  # noqa: ARG002 - from 10 on the network's types say it
    ) -> None:
        """Have the engine compute fp32 in fp32 and tell of its layers."""
        # Matrix products in TF32 carry ten bits of mantissa: that is not the fp32 of the report.
        config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    def plan(
        self,
        builder: "trt.Builder",
        network: "trt.INetworkDefinition",
        config: "trt.IBuilderConfig",
    ) -> Optional[bytes]:
        """Build; None if the builder refuses."""
        plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(plan)

    def tensors(self, engine: "trt.ICudaEngine") -> Tensors:
        """Return the engine's inputs and outputs."""
        return TensorsByName(engine)

    def layers(self, engine: "trt.ICudaEngine") -> Optional[List[Any]]:
        """Return the engine inspector's information about each layer."""
        inspector = engine.create_engine_inspector()
        words = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        found: List[Any] = json.loads(words).get("Layers", [])
        return found

    def layer_times(self, tensors: Tensors, run: Callable[[], None]) -> Optional[LayerTimes]:
        """Return the milliseconds of each layer in ``run``, from TensorRT's profiler."""
        if not isinstance(tensors, TensorsByName):
            raise TypeError(f"{tensors!r} are not of this driver's tensors()")
        profiler = KeptTimes()
        tensors.watch(profiler)
        run()
        return profiler.times


class KeptTimes(trt.IProfiler):
    """Adds up what TensorRT reports of each layer after each run."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)  # the bindings refuse to be initialized by super()
        self.times: LayerTimes = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Take the milliseconds of one layer."""
        self.times[layer_name] = self.times.get(layer_name, 0.0) + float(ms)


@contextlib.contextmanager
def _kept_log() -> Iterator[Log]:
    yield KeptLog()
