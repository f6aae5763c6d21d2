"""Debug tensors: TensorRT 10 gives the value of an intermediate tensor to a listener."""

import ctypes
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np

from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.tensors_by_name import TensorsByName

# Copies what is at an address, on the device or not, into an array.
CopyFrom = Callable[[np.ndarray, int, bool], None]


class KeptTensors(trt.IDebugListener):
    """Copies the values that it is given during a run."""

    def __init__(self, copy: CopyFrom) -> None:
        trt.IDebugListener.__init__(self)
        self.values: Dict[str, np.ndarray] = {}
        self._copy = copy

    def process_debug_tensor(
        self,
        addr: object,
        location: "trt.TensorLocation",
        type: "trt.DataType",  # noqa: A002 - its name there
        shape: "trt.Dims | Sequence[int]",
        name: str,
        stream: int,  # noqa: ARG002 - the copy waits for the whole device
    ) -> None:
        """Copy one value; the address is valid during this call alone."""
        try:
            dtype: Any = trt.nptype(type)
        except TypeError:  # numpy has no such type
            return
        sizes: Tuple[int, ...] = tuple(shape)
        value = np.empty(sizes, dtype)
        self._copy(value, address_in(addr), location == trt.TensorLocation.DEVICE)
        self.values[name] = value


class TensorsWithDebug(TensorsByName):
    """Tensors by name whose execution gives debug tensors to a listener."""

    def listen(self, listener: "trt.IDebugListener", names: Sequence[str]) -> None:
        """Give ``listener`` the values of the marked tensors ``names`` in each run."""
        context = self._started()
        context.set_debug_listener(listener)
        for name in names:
            context.set_tensor_debug_state(name, True)


def address_in(given: object) -> int:
    """Return the address that the bindings pass as a number or as a capsule."""
    if isinstance(given, int):
        return given
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    name = ctypes.pythonapi.PyCapsule_GetName
    pointer.argtypes, pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    name.argtypes, name.restype = [ctypes.py_object], ctypes.c_char_p
    return int(pointer(given, name(given)) or 0)
