"""The TensorRT plugin of MaskRcnnROIAlign.

Its contract is in plugins/maskrcnn_roi_align/README.md.
"""

from typing import Iterable, List, Optional, Sequence, Tuple

from trtyard.pipeline.ops.roi_align_op.contract import OP
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.shell import DTYPE_CODES, KernelPlugin, is_linear


def format_code(desc: "trt.PluginTensorDesc") -> Optional[int]:
    """Return the C interface's code for a memory layout of [N, C, H, W]; None if unsupported.

    TensorRT pads the channels only of 16-bit types.
    """
    last = trt.TensorFormat.HWC if desc.type == trt.DataType.FLOAT else trt.TensorFormat.HWC8
    codes = {trt.TensorFormat.LINEAR: 0, last: 1 if last == trt.TensorFormat.HWC else 2}
    return codes.get(desc.format)


class PoolingPlugin(KernelPlugin):
    """What the plugins that pool rois share: the type and the shape of their output."""

    rois: int  # the index of this input

    def get_output_data_types(self, input_types: "Sequence[trt.DataType]") -> "List[trt.DataType]":
        """Return the features' type."""
        return [input_types[0]]

    def get_output_shapes(
        self,
        inputs: "Sequence[trt.DimsExprs]",
        _shape_inputs: "Sequence[trt.DimsExprs]",
        exprs: "trt.IExprBuilder",
    ) -> "List[trt.DimsExprs]":
        """Return [R, C, output_height, output_width]."""
        pooled = trt.DimsExprs(4)
        pooled[0] = inputs[self.rois][0]
        pooled[1] = inputs[0][1]
        pooled[2], pooled[3] = map(exprs.constant, self.bins())
        return [pooled]

    def bins(self) -> Tuple[int, int]:
        """Return the output's height and width."""
        return int(self.values["output_height"]), int(self.values["output_width"])


class Plugin(PoolingPlugin):
    """The Python plugin of MaskRcnnROIAlign."""

    op = OP
    rois = 1

    def supports_format_combination(
        self, pos: int, tensors: "Sequence[trt.DynamicPluginTensorDesc]", _inputs: int
    ) -> bool:
        """Return whether types and formats are supported.

        Features and output have one float type, each linear or channels-last. Rois are float32 and
        indices int32, both linear.
        """
        if pos in (1, 2):
            return is_linear(tensors[pos], trt.DataType.FLOAT if pos == 1 else trt.DataType.INT32)
        desc, types = tensors[pos].desc, [tensors[0].desc.type] if pos else list(DTYPE_CODES)
        return desc.type in types and format_code(desc) is not None

    def get_workspace_size(
        self,
        inputs: "Sequence[trt.DynamicPluginTensorDesc]",
        _outputs: "Sequence[trt.DynamicPluginTensorDesc]",
    ) -> int:
        """Return bytes for the profile's largest shapes; 0 if no kernels are loaded."""
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
        """Launch the kernels on the stream."""
        rois = input_desc[1].dims[0]
        self.loaded_kernels().launch(
            "trtyard_roi_align",
            *inputs,
            outputs[0],
            *input_desc[0].dims,
            rois,
            *[self.values[name] for name, _ in self.op.attributes],
            DTYPE_CODES[input_desc[0].type],
            format_code(input_desc[0]),
            format_code(output_desc[0]),
            workspace,
            self._workspace(input_desc[0].dims, rois),
            stream,
        )

    def _workspace(self, features: Iterable[int], rois: int) -> int:
        name = "trtyard_roi_align_workspace"
        return self.loaded_kernels().size(name, *features, rois, *self.bins())
