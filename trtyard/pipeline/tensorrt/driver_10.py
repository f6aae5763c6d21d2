"""TensorRT 10.15 and newer, 11 included: held against the bindings of 10.16.1 and 11.3.0."""

from pathlib import Path
from typing import Optional, Sequence, cast

from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_10_13 import Driver1013


class Driver10(Driver1013):
    """As 10.13, with a parser that can be told to take plugins before function bodies."""

    takes_functions = True

    def set_up_parser(self, parser: "trt.OnnxParser") -> None:
        """Have the parser take a custom op's plugin, and not its function body: from 10.15 on."""
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)

    def parse_with_data(self, parser: "trt.OnnxParser", onnx_file: Path) -> Optional[bool]:
        """Parse a file and the data files beside it."""
        return bool(parser.parse_from_file(str(onnx_file)))

    def prepare(
        self,
        network: "trt.INetworkDefinition",
        kept: Sequence[str] = (),  # noqa: ARG002 - the network's types say it
    ) -> None:
        """Allow the builder to use several kernels for an Attention op without a single one.

        The op came with opset 23. Without this, TensorRT for RTX refuses it in fp32.
        """
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.type == trt.LayerType.ATTENTION_INPUT:
                attention = cast("trt.IAttentionInputLayer", layer)
                attention.__class__ = trt.IAttentionInputLayer  # the bindings' own way to cast down
                attention.attention.decomposable = True
