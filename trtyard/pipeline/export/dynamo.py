"""Export through torch.export and the dynamo-based exporter (torch 2.5 and newer)."""

from typing import Any, Callable, Dict, Sequence

import onnx
import onnxscript.values
import torch

import trtyard.pipeline.ops  # noqa: F401 - makes torch.ops.trtyard
from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.export.schemas import register_schemas
from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION

_OPS = onnxscript.values.Opset(DOMAIN, DOMAIN_VERSION)


def export_dynamo(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Return the module as an ONNX model, every shape static.

    Raises:
        ConversionError: the module cannot be captured, or one of its ops has no ONNX form.
    """
    register_schemas()
    with explained("torch.export cannot capture the model"):
        program = torch.export.export(module, tuple(inputs), strict=False)
    with explained("the dynamo exporter cannot write the model as ONNX", program):
        exported = torch.onnx.export(
            program,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            custom_translation_table=_translations(),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return exported.model_proto


def _translations() -> Dict[Callable[..., Any], Callable[..., Any]]:
    return {
        torch.ops.trtyard.padded_nms.default: _padded_nms,
        torch.ops.trtyard.roi_align.default: _roi_align,
    }


def _padded_nms(
    boxes: Any,
    scores: Any,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Any:
    return _OPS.PaddedNMS(
        boxes,
        scores,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        keep_top_k=keep_top_k,
        box_offset=box_offset,
    )


def _roi_align(
    features: Any,
    rois: Any,
    batch_indices: Any,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> Any:
    return _OPS.MaskRcnnROIAlign(
        features,
        rois,
        batch_indices,
        output_height=output_height,
        output_width=output_width,
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
