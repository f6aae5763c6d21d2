"""What the Python V3 shells share.

A shell shows an op's kernels to TensorRT, and needs no C++ compiler. Parsing and building need no
kernels; ``enqueue`` does.
"""

from typing import Any, Dict, List, Optional, Type, cast

import numpy as np

from trtyard.pipeline.ops.contract import Op
from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt

VERSION = "1"

# Not the nodes' domain: RTX 1.7.1's parser looks a node that has a function body up here alone,
# and takes the body when it finds nothing.
NAMESPACE = ""

# What the C interface calls each element type.
DTYPE_CODES = {trt.DataType.FLOAT: 0, trt.DataType.HALF: 1, trt.DataType.BF16: 2}


_FIELDS = {
    float: (np.float32, trt.PluginFieldType.FLOAT32),
    int: (np.int32, trt.PluginFieldType.INT32),
}


class KernelPlugin(
    trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime
):
    """A shell. A subclass names its op, types, shapes and kernel."""

    op: Op

    def __init__(self, values: Dict[str, float], kernels: Optional[KernelLibrary]) -> None:
        # Each base class needs its own __init__ call, or the bindings crash.
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.values = values
        self.kernels = kernels
        self.plugin_name = self.op.op_type
        self.plugin_version = VERSION
        self.plugin_namespace = NAMESPACE
        self.num_outputs = len(self.op.outputs)

    def get_capability_interface(self, _type: Any) -> "KernelPlugin":
        """One object is core, build and runtime at once."""
        return self

    def clone(self) -> "KernelPlugin":
        """Return an equal plugin."""
        return type(self)(dict(self.values), self.kernels)

    def configure_plugin(self, _inputs: Any, _outputs: Any) -> None:
        """Nothing depends on the profile."""

    def on_shape_change(self, _inputs: Any, _outputs: Any) -> None:
        """Nothing is kept between shapes: enqueue reads them."""

    def set_tactic(self, _tactic: int) -> None:
        """There is one kernel."""

    def attach_to_context(self, _context: Any) -> "KernelPlugin":
        """Give each context its own object."""
        return self.clone()

    def get_fields_to_serialize(self) -> Any:
        """Every attribute, under its own name, so that the creator makes an equal plugin."""
        # The bindings keep neither the numbers nor the fields alive.
        self._numbers = [
            np.array([self.values[name]], _FIELDS[kind][0]) for name, kind in self.op.attributes
        ]
        self._fields = [
            trt.PluginField(name, number, _FIELDS[kind][1])
            for (name, kind), number in zip(self.op.attributes, self._numbers)
        ]
        return trt.PluginFieldCollection(self._fields)

    def loaded_kernels(self) -> KernelLibrary:
        """Return the kernels.

        Raises:
            RuntimeError: the engine runs in a process that was given none.
        """
        if self.kernels is None:
            raise RuntimeError(f"{self.op.op_type}: no compiled plugin library was given")
        return self.kernels


def is_linear(tensor: "trt.DynamicPluginTensorDesc", *types: "trt.DataType") -> bool:
    """Tell whether a tensor has one of the types, and the linear format."""
    return bool(tensor.desc.format == trt.TensorFormat.LINEAR and tensor.desc.type in types)


class KernelPluginCreator(trt.IPluginCreatorV3One):
    """Makes plugins of one class from a node's attributes or an engine's fields."""

    def __init__(self, plugin: Type[KernelPlugin], kernels: Optional[KernelLibrary]) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.plugin = plugin
        self.kernels = kernels
        self.name = plugin.op.op_type
        self.plugin_version = VERSION
        self.plugin_namespace = NAMESPACE
        self.field_names = trt.PluginFieldCollection(
            [
                trt.PluginField(name, np.array([], _FIELDS[kind][0]), _FIELDS[kind][1])
                for name, kind in plugin.op.attributes
            ]
        )

    def create_plugin(self, _name: str, fields: Any, _phase: "trt.TensorRTPhase") -> KernelPlugin:
        """Read every attribute of the plugin from ``fields``; an optional one is 0 without.

        Raises:
            ValueError: one is missing.
        """
        op = self.plugin.op
        given: Dict[str, Any] = {name: [0] for name in op.optional}
        given.update({one.name: one.data for one in cast("List[trt.PluginField]", fields)})
        missing = [name for name, _ in op.attributes if name not in given]
        if missing:
            raise ValueError(f"{self.name}: attribute {', '.join(missing)} missing")
        values = {name: _FIELDS[kind][0](given[name][0]).item() for name, kind in op.attributes}
        return self.plugin(values, self.kernels)
