"""TensorRT for RTX. Its API is TensorRT 11's, and its plans can be read."""

import re
from typing import List, Optional, Sequence

from trtyard.pipeline.ops.registry import PLUGIN_TYPES
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_10 import Driver10
from trtyard.pipeline.tensorrt.layers import EngineLayer, layers_in_plan

# A plan names the type of each plugin it will create: `"<layer>_pluginType" size=<name + NUL>`.
_PLUGIN_IN_PLAN = re.compile(rb'name="([^"]*)_pluginType" size=(\d+)')


class DriverRtx(Driver10):
    """Builds without a device; then only the plan itself shows its content."""

    has_debug_tensors = False

    def watch(
        self,
        network: "trt.INetworkDefinition",
        names: Sequence[str],
        as_outputs: bool = True,  # noqa: ARG002 - always
    ) -> None:
        """Mark the tensors ``names`` as outputs.

        A debug tensor of 1.7.1 that is fused into a kernel is in the plan by name alone: no kernel
        writes it.
        """
        super().watch(network, names, as_outputs=True)

    def layers_in_plan(self, plan: bytes) -> Optional[List[EngineLayer]]:
        """Return the layers of ``plan`` that compute nodes."""
        return layers_in_plan(plan)

    def plugins_in_plan(self, plan: bytes) -> Optional[List[str]]:
        """Return the op types of a plan's plugins, in the plan's order."""
        return plugin_layers_in_plan(plan)


def plugin_layers_in_plan(plan: bytes) -> List[str]:
    """Return the op types of the plugins that ``plan`` will create, in the plan's order.

    Without a device the runtime does not load a plan, so there is nothing for the engine
    inspector to look at; but a plan names its plugins in clear, by layer and by the length of the
    type's name.
    """
    by_length = {len(op_type) + 1: op_type for op_type in PLUGIN_TYPES}
    lengths = [int(size) for _layer, size in _PLUGIN_IN_PLAN.findall(plan)]
    return [by_length.get(length, "unknown") for length in lengths]
