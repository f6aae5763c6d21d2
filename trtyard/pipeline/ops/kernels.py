"""The compiled kernel cores, called through their C interface (plugins/include)."""

import ctypes
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError

ABI_VERSION = 3

_INT = ctypes.c_int32
_FLOAT = ctypes.c_float
_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t

_SIGNATURES = {
    "trtyard_abi_version": (_INT, []),
    "trtyard_status_string": (ctypes.c_char_p, [_INT]),
    "trtyard_padded_nms_workspace": (_SIZE, [_INT] * 4),
    "trtyard_padded_nms": (
        _INT,
        [_POINTER] * 4 + [_INT] * 5 + [_FLOAT] * 2 + [_INT] * 2 + [_POINTER, _SIZE, _POINTER],
    ),
    "trtyard_roi_align_workspace": (_SIZE, [_INT] * 7),
    "trtyard_roi_align": (
        _INT,
        [_POINTER] * 4 + [_INT] * 7 + [_FLOAT] + [_INT] * 6 + [_POINTER, _SIZE, _POINTER],
    ),
}


class KernelLibrary:
    """The plugins' shared library, with every function's argument types declared.

    Raises:
        EnvironmentLacksError: the file cannot be loaded, or was built for another interface.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise EnvironmentLacksError(f"cannot load the plugin library: {error}") from error
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = arguments
        version = self._library.trtyard_abi_version()
        if version != ABI_VERSION:
            raise EnvironmentLacksError(
                f"{path} has interface version {version}, this trtyard needs {ABI_VERSION}",
                "delete it; the next convert compiles it again",
            )

    def size(self, name: str, *arguments: int) -> int:
        """Call one of the ``*_workspace`` functions; bytes."""
        return int(getattr(self._library, name)(*arguments))

    def launch(self, name: str, *arguments: object) -> None:
        """Call one of the launching functions.

        Raises:
            RuntimeError: it returned a status other than 0.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            words = self._library.trtyard_status_string(status).decode()
            raise RuntimeError(f"{name} failed with status {status}: {words}")
