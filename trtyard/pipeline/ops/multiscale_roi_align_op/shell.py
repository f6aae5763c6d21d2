"""The TensorRT plugin of MultiscaleRoIAlign.

Its contract is in plugins/multiscale_roi_align/README.md.
"""

from typing import Sequence

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import MOST_LEVELS, OP, SCALES
from trtyard.pipeline.ops.multiscale_roi_align_op.kernel import arguments_of
from trtyard.pipeline.ops.roi_align_op.shell import PoolingPlugin, format_code
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.shell import DTYPE_CODES, is_linear

_ROIS, _BATCH_INDICES, _POOLED = MOST_LEVELS, MOST_LEVELS + 1, MOST_LEVELS + 2


class Plugin(PoolingPlugin):
    """The Python plugin of MultiscaleRoIAlign."""

    op = OP
    rois = _ROIS

    def supports_format_combination(
        self, pos: int, tensors: "Sequence[trt.DynamicPluginTensorDesc]", _inputs: int
    ) -> bool:
        """Return whether types and formats are supported.

        All maps have one float type and one format, linear or channels-last. The result has their
        type. Rois are float32 and indices int32, both linear.
        """
        if pos in (_ROIS, _BATCH_INDICES):
            kind = trt.DataType.FLOAT if pos == _ROIS else trt.DataType.INT32
            return is_linear(tensors[pos], kind)
        desc, first = tensors[pos].desc, tensors[0].desc
        if pos == 0:
            return desc.type in DTYPE_CODES and format_code(desc) is not None
        code = format_code(desc)
        is_like = code == format_code(first) if pos < MOST_LEVELS else code is not None
        return bool(desc.type == first.type and is_like)

    def get_workspace_size(
        self,
        inputs: "Sequence[trt.DynamicPluginTensorDesc]",
        _outputs: "Sequence[trt.DynamicPluginTensorDesc]",
    ) -> int:
        """Return bytes for the profile's largest shapes; 0 if no kernels are loaded."""
        return 0 if self.kernels is None else self._workspace(inputs[_ROIS].max[0])

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
        scales = [scale for scale in (self.values[name] for name in SCALES) if scale != 0]
        dims = [desc.dims for desc in input_desc[: len(scales)]]
        rois = input_desc[_ROIS].dims[0]
        names = ("output_height", "output_width", "sampling_ratio", "aligned")
        others = (
            *inputs[_ROIS:],
            outputs[0],
            dims[0][0],
            dims[0][1],
            rois,
            *[self.values[name] for name in (*names, "canonical_scale", "canonical_level")],
            DTYPE_CODES[input_desc[0].type],
            format_code(input_desc[0]),
            format_code(output_desc[0]),
        )
        self.loaded_kernels().launch(
            "trtyard_multiscale_roi_align",
            *arguments_of(
                inputs[: len(scales)], [(each[2], each[3]) for each in dims], scales, others
            ),
            workspace,
            self._workspace(rois),
            stream,
        )

    def _workspace(self, rois: int) -> int:
        name = "trtyard_multiscale_roi_align_workspace"
        return self.loaded_kernels().size(name, rois, *self.bins())
