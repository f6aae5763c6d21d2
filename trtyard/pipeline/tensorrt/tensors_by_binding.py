"""Tensors by the index of their binding: TensorRT before 8.5, which has no other way."""

from typing import Any, Dict, List, Optional, Tuple

from trtyard.core.errors import ConversionError
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.tensors import Shape, Tensors


class TensorsByBinding(Tensors):
    """``execute_async_v2`` with an address for each binding.

    An engine has its bindings once for each optimization profile, one profile after the other.
    Those of the first have the tensors' names. A network of fixed shapes has one profile at most.
    """

    def __init__(self, engine: "trt.ICudaEngine") -> None:
        self._engine = engine
        self._addresses: Dict[str, int] = {}
        self._context: Optional[trt.IExecutionContext] = None
        self._first = 0  # binding of the profile that is in use

    def names(self) -> List[str]:
        """Return every input and output, in the order of the bindings."""
        engine = self._engine
        return [engine.get_binding_name(index) for index in range(self._per_profile())]

    def is_input(self, name: str) -> bool:
        """Tell inputs from outputs."""
        return bool(self._engine.binding_is_input(name))

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape: the engine's, and after ``start`` the execution's."""
        if self._context is not None:
            return tuple(self._context.get_binding_shape(self._index(name)))
        return tuple(self._engine.get_binding_shape(name))

    def dtype(self, name: str) -> Any:
        """Return a tensor's numpy type."""
        return trt.nptype(self._engine.get_binding_dtype(name))

    def profiles(self) -> int:
        """Return the number of optimization profiles."""
        return int(self._engine.num_optimization_profiles)

    def limits(self, name: str, profile: int) -> Tuple[Shape, Shape, Shape]:
        """Return an input's smallest, usual and largest shape in a profile."""
        binding = profile * self._per_profile() + self.names().index(name)
        least, usual, most = self._engine.get_profile_shape(profile, binding)
        return tuple(least), tuple(usual), tuple(most)

    def start(self, profile: int = 0, stream: int = 0) -> None:  # noqa: ARG002 - 7.0 takes none
        """Make an execution context with a profile."""
        self._context = self._engine.create_execution_context()
        self._first = profile * self._per_profile()
        if profile:  # a new context has the first one
            self._context.active_optimization_profile = profile
            if self._context.active_optimization_profile != profile:
                raise ConversionError(
                    f"the engine does not take its optimization profile {profile}"
                )

    def fits(self, name: str, shape: Shape) -> bool:
        """Set an input's shape; False if the engine does not take it."""
        if -1 not in self._engine.get_binding_shape(name):
            return self.shape(name) == tuple(shape)
        return bool(self._started().set_binding_shape(self._index(name), shape))

    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""
        self._addresses[name] = address

    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""
        return bool(self._started().execute_async_v2(self._bindings(), stream))

    def _bindings(self) -> List[int]:
        """Return an address for each binding, 0 for those of other profiles."""
        addresses = [0] * self._engine.num_bindings
        for name in self.names():
            addresses[self._index(name)] = self._addresses[name]
        return addresses

    def _index(self, name: str) -> int:
        return self._first + self.names().index(name)

    def _per_profile(self) -> int:
        return int(self._engine.num_bindings) // max(self.profiles(), 1)

    def _started(self) -> "trt.IExecutionContext":
        if self._context is None:
            raise RuntimeError("start() comes first")
        return self._context
