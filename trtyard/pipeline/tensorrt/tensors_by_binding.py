"""Tensors by the index of their binding: TensorRT before 8.5, which has no other way."""

from typing import Any, Dict, List, Optional

from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.tensors import Shape, Tensors


class TensorsByBinding(Tensors):
    """``execute_async_v2`` with an address for each binding.

    A network with an explicit batch and fixed shapes has no optimization profile, so its engine
    has one binding for each input and output.
    """

    def __init__(self, engine: "trt.ICudaEngine") -> None:
        self._engine = engine
        self._addresses: Dict[str, int] = {}
        self._context: Optional[trt.IExecutionContext] = None

    def names(self) -> List[str]:
        """Return every input and output, in the order of the bindings."""
        engine = self._engine
        return [engine.get_binding_name(index) for index in range(engine.num_bindings)]

    def is_input(self, name: str) -> bool:
        """Tell inputs from outputs."""
        return bool(self._engine.binding_is_input(name))

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape, which is fixed."""
        return tuple(self._engine.get_binding_shape(name))

    def dtype(self, name: str) -> Any:
        """Return a tensor's numpy type."""
        return trt.nptype(self._engine.get_binding_dtype(name))

    def start(self) -> None:
        """Make an execution context."""
        self._context = self._engine.create_execution_context()

    def fits(self, name: str, shape: Shape) -> bool:
        """Tell whether this is the input's shape."""
        return self.shape(name) == tuple(shape)

    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""
        self._addresses[name] = address

    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""
        return bool(self._started().execute_async_v2(self._bindings(), stream))

    def _bindings(self) -> List[int]:
        return [self._addresses[name] for name in self.names()]

    def _started(self) -> "trt.IExecutionContext":
        if self._context is None:
            raise RuntimeError("start() comes first")
        return self._context
