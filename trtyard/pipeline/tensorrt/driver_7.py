"""TensorRT 7.0.

Names and arguments are those of its documentation, docs.nvidia.com/deeplearning/sdk/
tensorrt-archived/tensorrt-700/tensorrt-api/python_api, for the engine and the ONNX parser; of the
rest as 6.0.1 and 7.1.3 document it alike. The bindings are in no package registry, so that is all
that this was held against.
"""

from typing import Any, ContextManager, List, Optional

from trtyard.core.precisions import FP16, FP32
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_before_10 import DriverBefore10
from trtyard.pipeline.tensorrt.log import Log
from trtyard.pipeline.tensorrt.stderr_log import StderrLog
from trtyard.pipeline.tensorrt.tensors import Tensors
from trtyard.pipeline.tensorrt.tensors_by_binding import TensorsByBinding

# Without a limit a tactic gets no memory at all. What convolutions of a detector's size ask for
# stays below this, and it is an eighth of the smallest GPU that the release's users had.
_WORKSPACE_BYTES = 1 << 30

# Plugins keep the address of their first logger, so it must outlive all of them.
_LOGGER = trt.Logger(trt.Logger.WARNING)


class Driver7(DriverBefore10):
    """Bindings by index, a logger that only prints; no flag for TF32, which 7.1 brings."""

    def log(self) -> ContextManager[Log]:
        """Keep what TensorRT says in the block."""
        return StderrLog()

    def logger(self, log: Log) -> "trt.ILogger":  # noqa: ARG002 - it writes to stderr
        """Return a logger: Python's own kinds "have no constructor" (NVIDIA/TensorRT#1894)."""
        return _LOGGER

    def configure(self, config: "trt.IBuilderConfig", precision: str = FP32) -> None:
        """Give tactics memory to work in; in fp16 the builder chooses each layer's type."""
        config.max_workspace_size = _WORKSPACE_BYTES
        if precision == FP16:
            config.set_flag(trt.BuilderFlag.FP16)

    def plan(
        self,
        builder: "trt.Builder",
        network: "trt.INetworkDefinition",
        config: "trt.IBuilderConfig",
    ) -> Optional[bytes]:
        """Build; None if the builder refuses."""
        engine = builder.build_engine(network, config)
        return None if engine is None else bytes(engine.serialize())

    def tensors(self, engine: "trt.ICudaEngine") -> Tensors:
        """Return the engine's inputs and outputs."""
        return TensorsByBinding(engine)

    def layers(self, engine: "trt.ICudaEngine") -> Optional[List[Any]]:  # noqa: ARG002
        """Return None: there is no engine inspector, and no profiler in Python (#1894)."""
        return None
