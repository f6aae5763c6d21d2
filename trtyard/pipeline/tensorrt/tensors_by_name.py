"""Tensors by name: TensorRT 8.5 and newer, and TensorRT for RTX."""

from typing import Any, List, Optional

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

    def start(self) -> None:
        """Make an execution context."""
        self._context = self._engine.create_execution_context()

    def fits(self, name: str, shape: Shape) -> bool:
        """Set an input's shape; False if the engine does not take it."""
        return bool(self._started().set_input_shape(name, shape))

    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""
        self._started().set_tensor_address(name, address)

    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""
        return bool(self._started().execute_async_v3(stream))

    def _started(self) -> "trt.IExecutionContext":
        if self._context is None:
            raise RuntimeError("start() comes first")
        return self._context
