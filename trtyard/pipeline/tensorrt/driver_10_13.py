"""TensorRT 10.13 and 10.14: held against the bindings of 10.13.3 and 10.14.1."""

from pathlib import Path
from typing import Any, Callable, ContextManager, List, Mapping, Optional, Sequence, cast

import numpy as np

from trtyard.core.precisions import FP32
from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.debug_tensors import KeptTensors, TensorsWithDebug
from trtyard.pipeline.tensorrt.driver import tensors_named
from trtyard.pipeline.tensorrt.driver_named import NamedTensorsDriver
from trtyard.pipeline.tensorrt.shells import RegisteredShells
from trtyard.pipeline.tensorrt.tensors import Tensors


class Driver1013(NamedTensorsDriver):
    """Plugins of API V3, written in Python; every network has an explicit batch.

    The parser may take a custom op's function body although there is a plugin, so it gets none.
    """

    takes_functions = False
    has_debug_tensors = True

    def create_network(
        self, builder: "trt.Builder", precision: str = FP32
    ) -> "trt.INetworkDefinition":
        """Make an empty network, in which the file's types hold if it has reduced ones."""
        if precision == FP32:
            return builder.create_network(0)
        return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def watch(
        self, network: "trt.INetworkDefinition", names: Sequence[str], as_outputs: bool = False
    ) -> None:
        """Mark the tensors ``names`` as debug tensors, or as outputs."""
        if as_outputs:
            super().watch(network, names)
            return
        for tensor in tensors_named(network, names):
            network.mark_debug(tensor)

    def tensors(self, engine: "trt.ICudaEngine") -> Tensors:
        """Return the engine's inputs and outputs."""
        return TensorsWithDebug(engine)

    def listen(
        self,
        tensors: Tensors,
        names: Sequence[str],
        copy: Callable[[np.ndarray, int, bool], None],
    ) -> Mapping[str, np.ndarray]:
        """Return what the next run fills with its debug tensors."""
        if not isinstance(tensors, TensorsWithDebug):
            raise TypeError(f"{tensors!r} are not of this driver's tensors()")
        kept = KeptTensors(copy)
        tensors.listen(kept, names)
        return kept.values

    def plugins(
        self,
        library: Optional[Path],
        logger: "trt.ILogger",  # noqa: ARG002 - V2 wants one
    ) -> ContextManager[Any]:
        """Have the custom ops' plugins registered in the block, with ``library``'s kernels."""
        return RegisteredShells(None if library is None else KernelLibrary(library))

    def registered_plugins(self) -> List[str]:
        """Return name, version and namespace of every plugin of this process."""
        # Creators of every plugin API, which have these three properties in common.
        creators = cast("List[trt.IPluginCreatorV3One]", trt.get_plugin_registry().all_creators)
        return [
            " ".join(part for part in (one.name, one.plugin_version, one.plugin_namespace) if part)
            for one in creators
        ]

    def plugin_type(self, layer: "trt.ILayer") -> Optional[str]:
        """Return the op type of a network's plugin layer; None for any other layer."""
        if layer.type != trt.LayerType.PLUGIN_V3:
            return None
        plugin_layer = cast("trt.IPluginV3Layer", layer)
        plugin_layer.__class__ = trt.IPluginV3Layer  # the bindings' own way to cast down
        core = plugin_layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
        return str(cast("trt.IPluginV3OneCore", core).plugin_name)

    def op_of(self, error: "trt.ParserError") -> str:
        """Return the op that a parser error is about."""
        return str(error.node_operator())
