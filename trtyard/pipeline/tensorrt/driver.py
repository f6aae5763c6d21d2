"""How TensorRT is driven: what differs between its generations, in one place each."""

import abc
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from trtyard.core.errors import ConversionError
from trtyard.core.precisions import FP32
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.layers import EngineLayer
from trtyard.pipeline.tensorrt.log import Log
from trtyard.pipeline.tensorrt.tensors import Shape, Tensors

# Smallest, usual and largest shape of an input, by its name.
ProfileShapes = Mapping[str, Tuple[Shape, Shape, Shape]]

LayerTimes = Dict[str, float]  # milliseconds by the layer's name, in the engine's order


class Driver(abc.ABC):
    """Drives one generation of TensorRT."""

    takes_functions = True  # the parser knows a model's local functions, from 9.0 on
    has_debug_tensors = False  # a run gives intermediate tensors to a listener, from 10.0 on

    @abc.abstractmethod
    def log(self) -> ContextManager[Log]:
        """Keep what TensorRT says in the block."""

    @abc.abstractmethod
    def logger(self, log: Log) -> "trt.ILogger":
        """Return what TensorRT calls its logger for a ``log`` of ``log()``."""

    @abc.abstractmethod
    def plugins(self, library: Optional[Path], logger: "trt.ILogger") -> ContextManager[Any]:
        """Have the custom ops' plugins registered in the block, with ``library``'s kernels.

        Raises:
            EnvironmentLacksError: the library cannot be loaded, or holds other plugins.
        """

    @abc.abstractmethod
    def registered_plugins(self) -> List[str]:
        """Return name, version and namespace of every plugin of this process."""

    @abc.abstractmethod
    def plugin_type(self, layer: "trt.ILayer") -> Optional[str]:
        """Return the op type of a network's plugin layer; None for any other layer."""

    @abc.abstractmethod
    def create_network(
        self, builder: "trt.Builder", precision: str = FP32
    ) -> "trt.INetworkDefinition":
        """Return an empty network with explicit batch dimensions, for a file of ``precision``."""

    def set_up_parser(self, parser: "trt.OnnxParser") -> None:  # noqa: B027 - most have no flags
        """Have the parser take a custom op's plugin, and not its function body."""

    def parse_with_data(
        self,
        parser: "trt.OnnxParser",  # noqa: ARG002 - of those that can
        onnx_file: Path,  # noqa: ARG002
    ) -> Optional[bool]:
        """Parse a file and the data files beside it; None if this parser gets the whole model."""
        return None

    def prepare(  # noqa: B027 - most need nothing
        self, network: "trt.INetworkDefinition", kept: Sequence[str] = ()
    ) -> None:
        """Set what a parsed network needs to be built, and the parser does not set.

        ``kept`` are the names of the nodes that stay in fp32.
        """

    def watch(
        self,
        network: "trt.INetworkDefinition",
        names: Sequence[str],
        as_outputs: bool = False,  # noqa: ARG002 - there is no other way
    ) -> None:
        """Have each run give the tensors ``names``; a name that the network lacks is skipped."""
        for tensor in tensors_named(network, names):
            network.mark_output(tensor)

    @abc.abstractmethod
    def configure(self, config: "trt.IBuilderConfig", precision: str = FP32) -> None:
        """Set memory, verbosity, fp32 as what it says, and what ``precision`` needs."""

    def add_profile(
        self, builder: "trt.Builder", config: "trt.IBuilderConfig", shapes: ProfileShapes
    ) -> None:
        """Add an optimization profile with the range of every input that varies.

        Raises:
            ConversionError: the builder refuses it.
        """
        profile = builder.create_optimization_profile()
        for name, (least, usual, most) in shapes.items():
            profile.set_shape(name, least, usual, most)
        if config.add_optimization_profile(profile) < 0:
            ranges = ", ".join(
                f"{name} {list(one[0])}..{list(one[2])}" for name, one in shapes.items()
            )
            raise ConversionError(f"TensorRT refuses the optimization profile of {ranges}")

    @abc.abstractmethod
    def plan(
        self,
        builder: "trt.Builder",
        network: "trt.INetworkDefinition",
        config: "trt.IBuilderConfig",
    ) -> Optional[bytes]:
        """Build; None if the builder refuses."""

    @abc.abstractmethod
    def tensors(self, engine: "trt.ICudaEngine") -> Tensors:
        """Return the engine's inputs and outputs."""

    def listen(
        self,
        tensors: Tensors,  # noqa: ARG002 - of the releases with debug tensors
        names: Sequence[str],  # noqa: ARG002
        copy: Callable[[np.ndarray, int, bool], None],  # noqa: ARG002
    ) -> Mapping[str, np.ndarray]:
        """Return what the next run fills with its debug tensors; nothing if they are outputs.

        ``tensors`` are started. ``copy`` takes an array, an address, and whether that is on the
        device.
        """
        return {}

    @abc.abstractmethod
    def layers(self, engine: "trt.ICudaEngine") -> Optional[List[Any]]:
        """Return the engine's layer information, or None if the release has none."""

    def layer_times(
        self,
        tensors: Tensors,  # noqa: ARG002 - of the releases that can
        run: Callable[[], None],  # noqa: ARG002
    ) -> Optional[LayerTimes]:
        """Return the milliseconds of each layer in ``run``; None if the release has no profiler.

        ``tensors`` are started and bound; ``run`` enqueues them and waits.
        """
        return None

    def op_of(self, error: "trt.ParserError") -> str:  # noqa: ARG002 - as the releases that know it
        """Return the op that a parser error is about, or nothing: before 10 only its index."""
        return ""

    def layers_in_plan(self, plan: bytes) -> Optional[List[EngineLayer]]:  # noqa: ARG002
        """Return the layers that a plan lists; None where only the engine inspector has them."""
        return None

    def plugins_in_plan(self, plan: bytes) -> Optional[List[str]]:  # noqa: ARG002
        """Return the op types of a plan's plugins; None where a plan cannot be read."""
        return None


def tensors_named(network: "trt.INetworkDefinition", names: Sequence[str]) -> List["trt.ITensor"]:
    """Return the network's intermediate tensors with these names, in its order."""
    outputs = {network.get_output(index).name for index in range(network.num_outputs)}
    wanted = set(names) - outputs
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for place in range(layer.num_outputs):
            tensor = layer.get_output(place)
            if tensor.name in wanted:
                found.append(tensor)
    return found
