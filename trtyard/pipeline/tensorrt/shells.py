"""Python V3 shells: they show the kernel cores to TensorRT without a C++ compiler.

Parsing and building need no kernels; ``enqueue`` does. TensorRT keeps no reference to what its
registry holds, so whoever registers must keep the creators alive.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Type, cast

import numpy as np

from trtyard.pipeline.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt

VERSION = "1"

# Not the nodes' domain: RTX 1.7.1's parser looks a node that has a function body up here alone,
# and takes the body when it finds nothing.
NAMESPACE = ""

# What the C interface calls each element type.
_DTYPE_CODES = {trt.DataType.FLOAT: 0, trt.DataType.HALF: 1, trt.DataType.BF16: 2}


class Attribute(NamedTuple):
    """One node attribute: ``kind`` is np.float32 or np.int32."""

    name: str
    kind: type

    @property
    def field_type(self) -> "trt.PluginFieldType":
        """The plugin field's type."""
        is_float = self.kind is np.float32
        return trt.PluginFieldType.FLOAT32 if is_float else trt.PluginFieldType.INT32


class KernelPlugin(
    trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime
):
    """What the two shells share. A subclass names its attributes, types, shapes and kernel."""

    op_type = ""
    attributes: Tuple[Attribute, ...] = ()
    output_count = 1

    def __init__(self, values: Dict[str, float], kernels: Optional[KernelLibrary]) -> None:
        # Each base must be initialised by itself, or the bindings crash.
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.values = values
        self.kernels = kernels
        self.plugin_name = self.op_type
        self.plugin_version = VERSION
        self.plugin_namespace = NAMESPACE
        self.num_outputs = self.output_count

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
        return trt.PluginFieldCollection(
            [
                trt.PluginField(
                    each.name, np.array([self.values[each.name]], each.kind), each.field_type
                )
                for each in self.attributes
            ]
        )

    def loaded_kernels(self) -> KernelLibrary:
        """Return the kernels.

        Raises:
            RuntimeError: the engine runs in a process that was given none.
        """
        if self.kernels is None:
            raise RuntimeError(f"{self.op_type}: no compiled plugin library was given")
        return self.kernels


def _is_linear(tensor: "trt.DynamicPluginTensorDesc", *types: "trt.DataType") -> bool:
    return bool(tensor.desc.format == trt.TensorFormat.LINEAR and tensor.desc.type in types)


class PaddedNmsPlugin(KernelPlugin):
    """PaddedNMS; contract in plugins/padded_nms/README.md."""

    op_type = "PaddedNMS"
    attributes = (
        Attribute("iou_threshold", np.float32),
        Attribute("score_threshold", np.float32),
        Attribute("keep_top_k", np.int32),
        Attribute("box_offset", np.int32),
    )
    output_count = 2

    def get_output_data_types(self, _input_types: "Sequence[trt.DataType]") -> "List[trt.DataType]":
        """Give int32 indices and an int32 count."""
        return [trt.DataType.INT32, trt.DataType.INT32]

    def get_output_shapes(
        self,
        inputs: "Sequence[trt.DimsExprs]",
        _shape_inputs: "Sequence[trt.DimsExprs]",
        exprs: "trt.IExprBuilder",
    ) -> "List[trt.DimsExprs]":
        """Give [B, keep_top_k] and [B]."""
        indices, count = trt.DimsExprs(2), trt.DimsExprs(1)
        indices[0] = count[0] = inputs[1][0]
        indices[1] = exprs.constant(int(self.values["keep_top_k"]))
        return [indices, count]

    def supports_format_combination(
        self, pos: int, tensors: "Sequence[trt.DynamicPluginTensorDesc]", _inputs: int
    ) -> bool:
        """Boxes and scores of one float type, int32 outputs, all linear."""
        if pos >= 2:
            return _is_linear(tensors[pos], trt.DataType.INT32)
        return _is_linear(tensors[pos], *_DTYPE_CODES) and (
            pos == 0 or tensors[1].desc.type == tensors[0].desc.type
        )

    def get_workspace_size(
        self,
        inputs: "Sequence[trt.DynamicPluginTensorDesc]",
        _outputs: "Sequence[trt.DynamicPluginTensorDesc]",
    ) -> int:
        """Bytes for the largest shapes of the profile; 0 while no kernels are loaded."""
        if self.kernels is None:
            return 0
        batch, classes, boxes = inputs[1].max
        return self._workspace(batch, classes, boxes)

    def enqueue(
        self,
        input_desc: "Sequence[trt.PluginTensorDesc]",
        _output_desc: "Sequence[trt.PluginTensorDesc]",
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        """Put the kernels into the stream."""
        batch, classes, boxes = input_desc[1].dims
        self.loaded_kernels().launch(
            "trtyard_padded_nms",
            inputs[0],
            inputs[1],
            outputs[0],
            outputs[1],
            batch,
            classes,
            input_desc[0].dims[1],
            boxes,
            self.values["keep_top_k"],
            self.values["iou_threshold"],
            self.values["score_threshold"],
            self.values["box_offset"],
            _DTYPE_CODES[input_desc[0].type],
            workspace,
            self._workspace(batch, classes, boxes),
            stream,
        )

    def _workspace(self, batch: int, classes: int, boxes: int) -> int:
        keep = int(self.values["keep_top_k"])
        return self.loaded_kernels().size(
            "trtyard_padded_nms_workspace", batch, classes, boxes, keep
        )


class RoiAlignPlugin(KernelPlugin):
    """MaskRcnnROIAlign; contract in plugins/maskrcnn_roi_align/README.md."""

    op_type = "MaskRcnnROIAlign"
    attributes = (
        Attribute("output_height", np.int32),
        Attribute("output_width", np.int32),
        Attribute("spatial_scale", np.float32),
        Attribute("sampling_ratio", np.int32),
        Attribute("aligned", np.int32),
    )

    def get_output_data_types(self, input_types: "Sequence[trt.DataType]") -> "List[trt.DataType]":
        """Give the features' type."""
        return [input_types[0]]

    def get_output_shapes(
        self,
        inputs: "Sequence[trt.DimsExprs]",
        _shape_inputs: "Sequence[trt.DimsExprs]",
        exprs: "trt.IExprBuilder",
    ) -> "List[trt.DimsExprs]":
        """Give [R, C, output_height, output_width]."""
        pooled = trt.DimsExprs(4)
        pooled[0] = inputs[1][0]
        pooled[1] = inputs[0][1]
        pooled[2] = exprs.constant(int(self.values["output_height"]))
        pooled[3] = exprs.constant(int(self.values["output_width"]))
        return [pooled]

    def supports_format_combination(
        self, pos: int, tensors: "Sequence[trt.DynamicPluginTensorDesc]", _inputs: int
    ) -> bool:
        """Float features and output of one type, float32 rois, int32 indices, all linear."""
        if pos == 0:
            return _is_linear(tensors[0], *_DTYPE_CODES)
        wanted = {1: trt.DataType.FLOAT, 2: trt.DataType.INT32, 3: tensors[0].desc.type}
        return _is_linear(tensors[pos], wanted[pos])

    def get_workspace_size(
        self,
        inputs: "Sequence[trt.DynamicPluginTensorDesc]",
        _outputs: "Sequence[trt.DynamicPluginTensorDesc]",
    ) -> int:
        """Bytes for the largest shapes of the profile; 0 while no kernels are loaded."""
        return 0 if self.kernels is None else self._workspace(inputs[0].max, inputs[1].max[0])

    def enqueue(
        self,
        input_desc: "Sequence[trt.PluginTensorDesc]",
        _output_desc: "Sequence[trt.PluginTensorDesc]",
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        """Put the kernels into the stream."""
        rois = input_desc[1].dims[0]
        self.loaded_kernels().launch(
            "trtyard_roi_align",
            *inputs,
            outputs[0],
            *input_desc[0].dims,
            rois,
            self.values["output_height"],
            self.values["output_width"],
            self.values["spatial_scale"],
            self.values["sampling_ratio"],
            self.values["aligned"],
            _DTYPE_CODES[input_desc[0].type],
            workspace,
            self._workspace(input_desc[0].dims, rois),
            stream,
        )

    def _workspace(self, features: Iterable[int], rois: int) -> int:
        bins = (int(self.values["output_height"]), int(self.values["output_width"]))
        return self.loaded_kernels().size("trtyard_roi_align_workspace", *features, rois, *bins)


class KernelPluginCreator(trt.IPluginCreatorV3One):
    """Makes plugins of one class from a node's attributes or an engine's fields."""

    def __init__(self, plugin: Type[KernelPlugin], kernels: Optional[KernelLibrary]) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.plugin = plugin
        self.kernels = kernels
        self.name = plugin.op_type
        self.plugin_version = VERSION
        self.plugin_namespace = NAMESPACE
        self.field_names = trt.PluginFieldCollection(
            [
                trt.PluginField(each.name, np.array([], each.kind), each.field_type)
                for each in plugin.attributes
            ]
        )

    def create_plugin(self, _name: str, fields: Any, _phase: "trt.TensorRTPhase") -> KernelPlugin:
        """Read every attribute of the plugin from ``fields``.

        Raises:
            ValueError: one is missing.
        """
        given = {field.name: field.data for field in cast("List[trt.PluginField]", fields)}
        missing = [each.name for each in self.plugin.attributes if each.name not in given]
        if missing:
            raise ValueError(f"{self.name}: attribute {', '.join(missing)} missing")
        values = {
            each.name: each.kind(given[each.name][0]).item() for each in self.plugin.attributes
        }
        return self.plugin(values, self.kernels)


_SHELLS: Tuple[Type[KernelPlugin], ...] = (PaddedNmsPlugin, RoiAlignPlugin)


class RegisteredShells:
    """The shells in TensorRT's registry, for as long as the block lasts."""

    def __init__(self, kernels: Optional[KernelLibrary] = None) -> None:
        self._creators = [KernelPluginCreator(shell, kernels) for shell in _SHELLS]

    def __enter__(self) -> "RegisteredShells":
        registry = trt.get_plugin_registry()
        for creator in self._creators:
            if not registry.register_creator(creator, NAMESPACE):
                raise RuntimeError(f"TensorRT's registry refused the creator of {creator.name}")
        return self

    def __exit__(self, *_exception: object) -> None:
        registry = trt.get_plugin_registry()
        for creator in self._creators:
            registry.deregister_creator(creator)
