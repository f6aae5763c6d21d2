"""Export through torch.export and the dynamo-based exporter (torch 2.5 and newer)."""

from typing import Any, Callable, Dict, Sequence

import onnx
import onnxscript.values
import torch

from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.export.inner_lines import name_users_lines
from trtyard.pipeline.export.schemas import register_schemas
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION, Op
from trtyard.pipeline.ops.registry import OPS, torch_op

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
    model = exported.model_proto
    name_users_lines(model.graph, program)
    return model


def _translations() -> Dict[Callable[..., Any], Callable[..., Any]]:
    for op in OPS:
        torch_op(op.name)  # makes it one of torch.ops
    operators = getattr(torch.ops, DOMAIN)
    return {getattr(operators, op.name).default: _translation(op) for op in OPS}


def _translation(op: Op) -> Callable[..., Any]:
    def translate(*arguments: Any) -> Any:
        tensors, attributes = op.apart(arguments)
        return getattr(_OPS, op.op_type)(*tensors, **attributes)

    # What the exporter goes by, to tell tensors from attributes.
    translate.__signature__ = op.signature()  # type: ignore[attr-defined]
    return translate
