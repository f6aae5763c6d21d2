"""Tensors by name: TensorRT 8.5 and newer, and TensorRT for RTX."""

from typing import Any, List, Optional, Tuple

from trtyard.core.errors import ConversionError
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.tensors import Shape, Tensors


class TensorsByName(Tensors):
    """``set_tensor_address`` and ``execute_async_v3``."""

    def __init__(self, engine: "trt.ICudaEngine") -> None:
        self._engine = engine
        self._context: Optional[trt.IExecutionContext] = None

    def names(self) -> List[str]:
        """Return every input and output."""
        engine = self._engine
        return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]

    def is_input(self, name: str) -> bool:
        """Tell inputs from outputs."""
        return bool(self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape: the engine's, and after ``start`` the execution's."""
        if self._context is not None:
            return tuple(self._context.get_tensor_shape(name))
        return tuple(self._engine.get_tensor_shape(name))

    def dtype(self, name: str) -> Any:
        """Return a tensor's numpy type."""
        return trt.nptype(self._engine.get_tensor_dtype(name))

    def profiles(self) -> int:
        """Return the number of optimization profiles."""
        return int(self._engine.num_optimization_profiles)

    def limits(self, name: str, profile: int) -> Tuple[Shape, Shape, Shape]:
        """Return an input's smallest, usual and largest shape in a profile."""
        least, usual, most = self._engine.get_tensor_profile_shape(name, profile)
        return tuple(least), tuple(usual), tuple(most)

    def start(self, profile: int = 0, stream: int = 0) -> None:
        """Make an execution context, with a profile that the CUDA stream ``stream`` sets."""
        self._context = self._engine.create_execution_context()
        # A new context has the first profile.
        if profile and not self._context.set_optimization_profile_async(profile, stream):
            raise ConversionError(f"the engine does not take its optimization profile {profile}")

    def fits(self, name: str, shape: Shape) -> bool:
        """Set an input's shape; False if the engine does not take it."""
        return bool(self._started().set_input_shape(name, shape))

    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""
        self._started().set_tensor_address(name, address)

    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""
        return bool(self._started().execute_async_v3(stream))

    def watch(self, profiler: "trt.IProfiler") -> None:
        """Have the runs from now on report the time of each layer."""
        self._started().profiler = profiler

    def _started(self) -> "trt.IExecutionContext":
        if self._context is None:
            raise RuntimeError("start() comes first")
        return self._context
