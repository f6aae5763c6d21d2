"""TensorRT 10.15 and newer, 11 included: held against the bindings of 10.16.1 and 11.3.0."""

from pathlib import Path
from typing import Any, ContextManager, List, Optional, cast

from trtyard.pipeline.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_named import NamedTensorsDriver
from trtyard.pipeline.tensorrt.shells import RegisteredShells


class Driver10(NamedTensorsDriver):
    """Plugins of API V3, written in Python; every network has an explicit batch."""

    def create_network(self, builder: "trt.Builder") -> "trt.INetworkDefinition":
        """Make an empty network."""
        return builder.create_network(0)

    def set_up_parser(self, parser: "trt.OnnxParser") -> None:
        """Have the parser take a custom op's plugin, and not its function body: from 10.15 on."""
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)

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

    def prepare(self, network: "trt.INetworkDefinition") -> None:
        """Allow the builder to make the op Attention of several kernels where it has no single one.

        The op came with opset 23. Without this, TensorRT for RTX refuses it in fp32.
        """
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.type == trt.LayerType.ATTENTION_INPUT:
                attention = cast("trt.IAttentionInputLayer", layer)
                attention.__class__ = trt.IAttentionInputLayer  # as above
                attention.attention.decomposable = True

    def op_of(self, error: "trt.ParserError") -> str:
        """Return the op that a parser error is about."""
        return str(error.node_operator())
