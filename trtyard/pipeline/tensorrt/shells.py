"""Python V3 shells: they show the kernel cores to TensorRT without a C++ compiler.

Parsing and building need no kernels; ``enqueue`` does. TensorRT keeps no reference to what its
registry holds, so whoever registers must keep the creators alive.
"""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Type, cast

import numpy as np

from trtyard.pipeline.ops.contracts import PADDED_NMS, ROI_ALIGN, Op
from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.tensorrt.api import trt

VERSION = "1"

# Not the nodes' domain: RTX 1.7.1's parser looks a node that has a function body up here alone,
# and takes the body when it finds nothing.
NAMESPACE = ""

# What the C interface calls each element type.
_DTYPE_CODES = {trt.DataType.FLOAT: 0, trt.DataType.HALF: 1, trt.DataType.BF16: 2}


_FIELDS = {
    float: (np.float32, trt.PluginFieldType.FLOAT32),
    int: (np.int32, trt.PluginFieldType.INT32),
}


def _field(name: str, kind: type, *value: float) -> "trt.PluginField":
    """Return an attribute as a plugin field, with its value or, in a list of names, without."""
    element, field_type = _FIELDS[kind]
    return trt.PluginField(name, np.array(value, element), field_type)


class KernelPlugin(
    trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime
):
    """What the two shells share. A subclass names its op, types, shapes and kernel."""

    op: Op

    def __init__(self, values: Dict[str, float], kernels: Optional[KernelLibrary]) -> None:
        # Each base must be initialised by itself, or the bindings crash.
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
        return trt.PluginFieldCollection(
            [_field(name, kind, self.values[name]) for name, kind in self.op.attributes]
        )

    def loaded_kernels(self) -> KernelLibrary:
        """Return the kernels.

        Raises:
            RuntimeError: the engine runs in a process that was given none.
        """
        if self.kernels is None:
            raise RuntimeError(f"{self.op.op_type}: no compiled plugin library was given")
        return self.kernels


def _is_linear(tensor: "trt.DynamicPluginTensorDesc", *types: "trt.DataType") -> bool:
    return bool(tensor.desc.format == trt.TensorFormat.LINEAR and tensor.desc.type in types)


def _format_code(desc: "trt.PluginTensorDesc") -> Optional[int]:
    """Return what the C interface calls how [N, C, H, W] lies in memory; None: it does not take it.

    TensorRT pads the channels of 16 bits, and only those.
    """
    last = trt.TensorFormat.HWC if desc.type == trt.DataType.FLOAT else trt.TensorFormat.HWC8
    codes = {trt.TensorFormat.LINEAR: 0, last: 1 if last == trt.TensorFormat.HWC else 2}
    return codes.get(desc.format)


class PaddedNmsPlugin(KernelPlugin):
    """PaddedNMS; contract in plugins/padded_nms/README.md."""

    op = PADDED_NMS

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

    op = ROI_ALIGN

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
        """Features and output of one float type, each linear or with its channels last.

        float32 rois and int32 indices, linear.
        """
        if pos in (1, 2):
            return _is_linear(tensors[pos], trt.DataType.FLOAT if pos == 1 else trt.DataType.INT32)
        desc, types = tensors[pos].desc, [tensors[0].desc.type] if pos else list(_DTYPE_CODES)
        return desc.type in types and _format_code(desc) is not None

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
        output_desc: "Sequence[trt.PluginTensorDesc]",
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
            *[self.values[name] for name, _ in self.op.attributes],
            _DTYPE_CODES[input_desc[0].type],
            _format_code(input_desc[0]),
            _format_code(output_desc[0]),
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
        self.name = plugin.op.op_type
        self.plugin_version = VERSION
        self.plugin_namespace = NAMESPACE
        self.field_names = trt.PluginFieldCollection(
            [_field(name, kind) for name, kind in plugin.op.attributes]
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
