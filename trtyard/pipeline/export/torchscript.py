"""Export through tracing and the TorchScript-based exporter, for rows that have no other."""

import io
from typing import Any, Callable, Sequence

import onnx
import torch
from torch.onnx import symbolic_helper

from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.onnx_model.origin import keep_lines
from trtyard.pipeline.ops.contracts import (
    DOMAIN,
    DOMAIN_VERSION,
    OP_TYPES,
    PADDED_NMS,
    ROI_ALIGN,
    Op,
)
from trtyard.pipeline.ops.output_types import set_padded_nms_types, set_roi_align_types
from trtyard.pipeline.torch_support.versions import (
    attention_in_parts,
    custom_node,
    doc_string_choice,
    example_choice,
    export_choice,
    register_symbolic,
)


def export_torchscript(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Return the module as an ONNX model, every shape static.

    Each node's doc string is the line of the Python code that it comes from: TensorRT's parser can
    name it, where it is patched to.

    Raises:
        ConversionError: the module cannot be traced, or one of its ops has no ONNX form.
    """
    register_symbolic("trtyard::padded_nms", _symbolic(PADDED_NMS, set_padded_nms_types), opset)
    register_symbolic("trtyard::roi_align", _symbolic(ROI_ALIGN, set_roi_align_types), opset)
    written = io.BytesIO()
    what = "the TorchScript exporter cannot write the model as ONNX"
    with explained(what), torch.no_grad(), attention_in_parts(module):
        torch.onnx.export(
            module,
            tuple(inputs),
            written,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            do_constant_folding=True,
            **export_choice(),
            **doc_string_choice(),
            **example_choice(module, inputs),
        )
    model = onnx.load_model_from_string(written.getvalue())
    keep_lines(model.graph)
    return _in_own_domain(model)


def _symbolic(op: Op, set_types: Callable[..., None]) -> Callable[..., Any]:
    """Return the exporter's translation of a torch operator: one node with typed outputs."""

    def translate(graph: Any, *arguments: Any) -> Any:
        outputs = custom_node(graph, op, arguments)
        set_types(arguments, outputs)
        return outputs

    # What parse_args goes by, to make plain values of the attributes.
    translate.__signature__ = op.signature("graph")  # type: ignore[attr-defined]
    kinds = ["f" if kind is float else "i" for _, kind in op.attributes]
    return symbolic_helper.parse_args(*["v"] * len(op.inputs), *kinds)(translate)


def _in_own_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the custom ops' nodes to their domain, where this torch could not put them there."""
    stray = [node for node in model.graph.node if not node.domain and node.op_type in OP_TYPES]
    for node in stray:
        node.domain = DOMAIN
    if stray:
        model.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    return model
