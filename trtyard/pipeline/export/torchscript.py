"""Export through tracing and the TorchScript-based exporter, for rows that have no other."""

import contextlib
import io
from typing import Any, Callable, ContextManager, Optional, Sequence

import onnx
import torch
from torch.onnx import symbolic_helper

from trtyard.pipeline.export.axes import Axes, name_dimensions
from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.export.own_forms import register_own_forms
from trtyard.pipeline.onnx_model.origin import keep_lines
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION, Op
from trtyard.pipeline.ops.registry import OP_TYPES, OPS
from trtyard.pipeline.ops.symbolic import typed_node
from trtyard.pipeline.torch_support.versions import (
    attention_in_parts,
    attention_of_any_length,
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
    axes: Optional[Axes] = None,
) -> onnx.ModelProto:
    """Return the module as an ONNX model, every shape static but for ``axes``.

    Each node's doc string is the line of the Python code that it comes from: TensorRT's parser can
    name it, where it is patched to.

    Raises:
        ConversionError: the module cannot be traced, or one of its ops has no ONNX form.
    """
    for op in OPS:
        register_symbolic(f"{DOMAIN}::{op.name}", _symbolic(op), opset)
    register_own_forms(opset)
    written = io.BytesIO()
    what = "the TorchScript exporter cannot write the model as ONNX"
    lengths: ContextManager[Any] = contextlib.ExitStack()  # nothing to do for fixed shapes
    if axes is not None:
        lengths = attention_of_any_length()
    with explained(what), torch.no_grad(), attention_in_parts(module), lengths:
        torch.onnx.export(
            module,
            tuple(inputs),
            written,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            do_constant_folding=True,
            dynamic_axes=None if axes is None else axes.of_both(),
            **export_choice(),
            **doc_string_choice(),
            **example_choice(module, inputs),
        )
    model = onnx.load_model_from_string(written.getvalue())
    keep_lines(model.graph)
    if axes is not None:
        name_dimensions(model, axes)
    return _in_own_domain(model)


def _symbolic(op: Op) -> Callable[..., Any]:
    """Return the exporter's translation of a torch operator: one node with typed outputs."""

    def translate(graph: Any, *arguments: Any) -> Any:
        outputs = typed_node(graph, op, arguments)
        return outputs if len(op.outputs) > 1 else outputs[0]

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
