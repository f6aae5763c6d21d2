"""Export through tracing and the TorchScript-based exporter, for rows that have no other."""

import io
from typing import Any, Sequence

import onnx
import torch
from torch.onnx import symbolic_helper

from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.onnx_functions import DOMAIN
from trtyard.pipeline.torch_versions import export_choice, register_symbolic


def export_torchscript(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Return the module as an ONNX model, every shape static.

    Raises:
        ConversionError: the module cannot be traced, or one of its ops has no ONNX form.
    """
    register_symbolic("trtyard::padded_nms", _padded_nms, opset)
    register_symbolic("trtyard::roi_align", _roi_align, opset)
    written = io.BytesIO()
    with explained("the TorchScript exporter cannot write the model as ONNX"), torch.no_grad():
        torch.onnx.export(
            module,
            tuple(inputs),
            written,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            do_constant_folding=True,
            **export_choice(),
        )
    return onnx.load_model_from_string(written.getvalue())


@symbolic_helper.parse_args("v", "v", "f", "f", "i", "i")
def _padded_nms(
    graph: Any,
    boxes: Any,
    scores: Any,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Any:
    indices, count = graph.op(
        DOMAIN + "::PaddedNMS",
        boxes,
        scores,
        iou_threshold_f=iou_threshold,
        score_threshold_f=score_threshold,
        keep_top_k_i=keep_top_k,
        box_offset_i=box_offset,
        outputs=2,
    )
    batch = scores.type().sizes()[0]
    int32 = scores.type().with_dtype(torch.int32)
    indices.setType(int32.with_sizes([batch, keep_top_k]))
    count.setType(int32.with_sizes([batch]))
    return indices, count


@symbolic_helper.parse_args("v", "v", "v", "i", "i", "f", "i", "i")
def _roi_align(
    graph: Any,
    features: Any,
    rois: Any,
    batch_indices: Any,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> Any:
    pooled = graph.op(
        DOMAIN + "::MaskRcnnROIAlign",
        features,
        rois,
        batch_indices,
        output_height_i=output_height,
        output_width_i=output_width,
        spatial_scale_f=spatial_scale,
        sampling_ratio_i=sampling_ratio,
        aligned_i=aligned,
    )
    channels, count = features.type().sizes()[1], rois.type().sizes()[0]
    pooled.setType(features.type().with_sizes([count, channels, output_height, output_width]))
    return pooled
