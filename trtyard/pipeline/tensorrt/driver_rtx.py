"""TensorRT for RTX. Its API is TensorRT 11's, and its plans can be read."""

import re
from typing import List, Optional

from trtyard.pipeline.ops.registry import PLUGIN_TYPES
from trtyard.pipeline.tensorrt.driver_10 import Driver10

# A plan names the type of each plugin it will create: `"<layer>_pluginType" size=<name + NUL>`.
_PLUGIN_IN_PLAN = re.compile(rb'name="([^"]*)_pluginType" size=(\d+)')


class DriverRtx(Driver10):
    """Builds without a device; then only the plan itself shows its content."""

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
