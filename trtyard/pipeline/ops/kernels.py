"""Call the compiled kernels through their C interface (plugins/include)."""

import ctypes
from pathlib import Path
from typing import Any, Dict, List, Tuple

from trtyard.core.errors import EnvironmentLacksError
from trtyard.pipeline.ops.c_types import INT
from trtyard.pipeline.ops.registry import WITH_PLUGIN, part

ABI_VERSION = 4

# Result and arguments of each function.
_Signatures = Dict[str, Tuple[Any, List[Any]]]

_COMMON: _Signatures = {
    "trtyard_abi_version": (INT, []),
    "trtyard_status_string": (ctypes.c_char_p, [INT]),
}


class KernelLibrary:
    """The plugins' shared library, with declared argument types for every function.

    Raises:
        EnvironmentLacksError: the file cannot be loaded, or was built for another interface.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise EnvironmentLacksError(f"cannot load the plugin library: {error}") from error
        for name, (result, arguments) in _signatures().items():
            function = getattr(self._library, name, None)
            if function is None:
                raise EnvironmentLacksError(
                    f"{path} is not a library of trtyard's kernels: it has no {name}"
                )
            function.restype = result
            function.argtypes = arguments
        version = self._library.trtyard_abi_version()
        if version != ABI_VERSION:
            raise EnvironmentLacksError(
                f"{path} has interface version {version}, this trtyard needs {ABI_VERSION}",
                "delete it; the next convert compiles it again",
            )

    def size(self, name: str, *arguments: int) -> int:
        """Return the bytes that one of the ``*_workspace`` functions returns."""
        return int(getattr(self._library, name)(*arguments))

    def launch(self, name: str, *arguments: object) -> None:
        """Call one of the functions that launch kernels.

        Raises:
            RuntimeError: it returned a status other than 0.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            words = self._library.trtyard_status_string(status).decode()
            raise RuntimeError(f"{name} failed with status {status}: {words}")


def _signatures() -> _Signatures:
    found = dict(_COMMON)
    for op in WITH_PLUGIN:
        found.update(part(op, "kernel").SIGNATURES)
    return found
