"""Device memory and one stream through the CUDA driver alone: no torch, so sanitizers run fast."""

import ctypes

import numpy as np


class Driver:
    """The first GPU's primary context, which the CUDA runtime in the plugins shares."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        stream = ctypes.c_void_p()
        non_blocking = 1  # CU_STREAM_NON_BLOCKING
        self._call("cuStreamCreate", ctypes.byref(stream), non_blocking)
        self.stream = stream.value

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: CUresult {status}")

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(1, size)))
        return pointer.value

    def poison(self, pointer: int, size: int) -> None:
        """Fill with bytes that no result has, so that what is left unwritten shows."""
        self._call("cuMemsetD8_v2", ctypes.c_uint64(pointer), 0xA5, ctypes.c_size_t(size))
        self._call("cuCtxSynchronize")

    def free(self, *pointers: int) -> None:
        for pointer in pointers:
            self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def upload(self, array: np.ndarray) -> int:
        data = np.ascontiguousarray(array)
        pointer = self.allocate(data.nbytes)
        if data.nbytes:
            self._call(
                "cuMemcpyHtoD_v2",
                ctypes.c_uint64(pointer),
                ctypes.c_void_p(data.ctypes.data),
                ctypes.c_size_t(data.nbytes),
            )
            # The copy returns once the memory is staged; the stream does not wait for the rest.
            self._call("cuCtxSynchronize")
        return pointer

    def download(self, pointer: int, shape: "tuple[int, ...]", dtype: type) -> np.ndarray:
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))
        array = np.empty(shape, dtype)
        if array.nbytes:
            self._call(
                "cuMemcpyDtoH_v2",
                ctypes.c_void_p(array.ctypes.data),
                ctypes.c_uint64(pointer),
                ctypes.c_size_t(array.nbytes),
            )
        return array
