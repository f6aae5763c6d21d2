"""What TensorRT 7.0 to 8.6 have in common: implicit batches, and plugins of API V2.

Those exist in C++ only. Their library registers its creators when it is loaded, with the TensorRT
that is in the process by then, and they stay until the process ends.
"""

import contextlib
import ctypes
from pathlib import Path
from typing import Any, ContextManager, Iterator, List, Optional, cast

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import LIBRARY_NAME, SHELL_LIBRARY_NAME_V2
from trtyard.core.precisions import FP32
from trtyard.pipeline.ops.registry import PLUGIN_TYPES
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver import Driver

_VERSION, _NAMESPACE = "1", ""


class DriverBefore10(Driver):
    """Networks with an explicit batch where that is asked for; plugins of API V2."""

    takes_functions = False

    def create_network(
        self,
        builder: "trt.Builder",
        precision: str = FP32,  # noqa: ARG002 - a flag of the builder says it
    ) -> "trt.INetworkDefinition":
        """Return an empty network with explicit batch dimensions."""
        return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))

    def plugins(self, library: Optional[Path], logger: "trt.ILogger") -> ContextManager[Any]:
        """Have the custom ops' plugins registered, and NVIDIA's own.

        ``library`` is the one with the shells, or lies beside it.
        """
        return _registered(library, logger)

    def registered_plugins(self) -> List[str]:
        """Return name, version and namespace of every plugin of this process."""
        return [
            " ".join(part for part in (one.name, one.plugin_version, one.plugin_namespace) if part)
            for one in trt.get_plugin_registry().plugin_creator_list
        ]

    def plugin_type(self, layer: "trt.ILayer") -> Optional[str]:
        """Return the op type of a network's plugin layer; None for any other layer."""
        if layer.type != trt.LayerType.PLUGIN_V2:
            return None
        plugin_layer = cast("trt.IPluginV2Layer", layer)
        plugin_layer.__class__ = trt.IPluginV2Layer  # the bindings' own way to cast down
        return str(plugin_layer.plugin.plugin_type)


@contextlib.contextmanager
def _registered(library: Optional[Path], logger: "trt.ILogger") -> Iterator[None]:
    trt.init_libnvinfer_plugins(logger, "")  # which parsers of this age use for some standard ops
    if library is not None:
        _load(library_with_shells(library))
    yield


def library_with_shells(library: Path) -> Path:
    """Return the library with the shells: beside the kernels' own in an image, else the given."""
    beside = library.with_name(SHELL_LIBRARY_NAME_V2)
    return beside if library.name == LIBRARY_NAME and beside.is_file() else library


def _load(library: Path) -> None:
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise EnvironmentLacksError(f"cannot load the plugin library: {error}") from error
    registry = trt.get_plugin_registry()
    missing = [
        op_type
        for op_type in PLUGIN_TYPES
        if registry.get_plugin_creator(op_type, _VERSION, _NAMESPACE) is None
    ]
    if missing:
        raise EnvironmentLacksError(
            f"{library} registers no plugin for {', '.join(missing)}",
            f"compile it with this TensorRT's headers: ./run plugins --headers DIR --out "
            f"{SHELL_LIBRARY_NAME_V2}",
        )
