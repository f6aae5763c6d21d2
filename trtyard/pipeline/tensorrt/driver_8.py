"""TensorRT 8.5 and 8.6: held against the signatures in the bindings of 8.6.1."""

from typing import Sequence

from trtyard.core.precisions import FP16, FP32, INT8
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_before_10 import DriverBefore10
from trtyard.pipeline.tensorrt.driver_named import NamedTensorsDriver


class Driver8(DriverBefore10, NamedTensorsDriver):
    """Networks and plugins as before, engines and loggers as since.

    The types of a file are hints: flags allow the builder a precision, and it chooses for each
    layer. What stays in fp32 is a constraint on its layer.
    """

    def configure(self, config: "trt.IBuilderConfig", precision: str = FP32) -> None:
        """Allow the builder the precision; the scales of int8 are in the file's Q/DQ nodes."""
        super().configure(config, precision)
        if precision == FP16:
            config.set_flag(trt.BuilderFlag.FP16)
            config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        elif precision == INT8:
            config.set_flag(trt.BuilderFlag.INT8)

    def prepare(self, network: "trt.INetworkDefinition", kept: Sequence[str] = ()) -> None:
        """Have the layers of the nodes ``kept`` compute in fp32: the parser names them alike."""
        names = set(kept)
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.name in names:
                layer.precision = trt.float32
