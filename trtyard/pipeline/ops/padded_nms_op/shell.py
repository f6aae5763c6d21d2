"""The TensorRT plugin of PaddedNMS. Its contract is in plugins/padded_nms/README.md."""

from typing import List, Sequence

from trtyard.pipeline.ops.padded_nms_op.contract import OP
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.shell import DTYPE_CODES, KernelPlugin, is_linear


class Plugin(KernelPlugin):
    """The Python plugin of PaddedNMS."""

    op = OP

    def get_output_data_types(self, _input_types: "Sequence[trt.DataType]") -> "List[trt.DataType]":
        """Return int32 for the indices and the count."""
        return [trt.DataType.INT32, trt.DataType.INT32]

    def get_output_shapes(
        self,
        inputs: "Sequence[trt.DimsExprs]",
        _shape_inputs: "Sequence[trt.DimsExprs]",
        exprs: "trt.IExprBuilder",
    ) -> "List[trt.DimsExprs]":
        """Return [B, keep_top_k] and [B]."""
        indices, count = trt.DimsExprs(2), trt.DimsExprs(1)
        indices[0] = count[0] = inputs[1][0]
        indices[1] = exprs.constant(int(self.values["keep_top_k"]))
        return [indices, count]

    def supports_format_combination(
        self, pos: int, tensors: "Sequence[trt.DynamicPluginTensorDesc]", _inputs: int
    ) -> bool:
        """Return whether boxes and scores have one float type, outputs int32, all linear."""
        if pos >= 2:
            return is_linear(tensors[pos], trt.DataType.INT32)
        return is_linear(tensors[pos], *DTYPE_CODES) and (
            pos == 0 or tensors[1].desc.type == tensors[0].desc.type
        )

    def get_workspace_size(
        self,
        inputs: "Sequence[trt.DynamicPluginTensorDesc]",
        _outputs: "Sequence[trt.DynamicPluginTensorDesc]",
    ) -> int:
        """Return bytes for the profile's largest shapes; 0 if no kernels are loaded."""
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
        """Launch the kernels on the stream."""
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
            DTYPE_CODES[input_desc[0].type],
            workspace,
            self._workspace(batch, classes, boxes),
            stream,
        )

    def _workspace(self, batch: int, classes: int, boxes: int) -> int:
        keep = int(self.values["keep_top_k"])
        return self.loaded_kernels().size(
            "trtyard_padded_nms_workspace", batch, classes, boxes, keep
        )
