"""Export through torch.export and the dynamo-based exporter (torch 2.5 and newer)."""

import inspect
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import onnx
import onnxscript.values
import torch
from torch._dynamo.exc import UserError
from torch.export import Dim

from trtyard.pipeline.export.axes import Axes, name_dimensions
from trtyard.pipeline.export.constraints import (
    VIOLATED,
    constraint_error,
    decisions,
    required_multiples,
)
from trtyard.pipeline.export.failures import explained
from trtyard.pipeline.export.inner_lines import name_users_lines
from trtyard.pipeline.export.rewrite_rules import rules_tried_at_their_op
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
    axes: Optional[Axes] = None,
) -> onnx.ModelProto:
    """Return the module as an ONNX model, every shape static but for ``axes``.

    Raises:
        ConversionError: the module cannot be captured, one of its ops has no ONNX form, or its code
            fixes a dimension that is to vary.
    """
    register_schemas()
    with explained("torch.export cannot capture the model"):
        if axes is None:
            program = torch.export.export(module, tuple(inputs), strict=False)
        else:
            program = _captured(module, inputs, input_names, axes)
    failed = "the dynamo exporter cannot write the model as ONNX"
    with explained(failed, program), rules_tried_at_their_op():
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
    if axes is not None:
        name_dimensions(model, axes)
    return model


def _captured(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    axes: Axes,
) -> Any:
    """Return the program with open dimensions, whose sizes are multiples where it needs that."""
    multiples: Dict[str, int] = {}
    try:
        return _exported(module, inputs, input_names, axes, multiples)
    except UserError as error:
        if VIOLATED not in str(error):
            raise
        wanted = required_multiples(str(error))
        multiples = {
            name: number for name, number in wanted.items() if axes.steps[name] % number == 0
        }
    with decisions() as heard:
        try:
            return _exported(module, inputs, input_names, axes, multiples)
        except UserError as error:
            if VIOLATED not in str(error):
                raise
            raise constraint_error(str(error), heard, axes) from error


def _exported(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    axes: Axes,
    multiples: Mapping[str, int],
) -> Any:
    dimensions = {
        name: _dimension(name, *limits, multiples.get(name, 1))
        for name, limits in axes.limits.items()
    }
    shapes = [
        {index: dimensions[name] for index, name in axes.inputs.get(each, {}).items()}
        for each in input_names
    ]
    # As torch.export wants it: what goes into *args is a tuple of its own.
    bound = inspect.signature(module.forward).bind(*shapes)
    return torch.export.export(
        module, tuple(inputs), dynamic_shapes=tuple(bound.arguments.values()), strict=False
    )


def _dimension(name: str, least: int, most: int, multiple: int) -> Any:
    if multiple == 1:
        return Dim(name, min=least, max=most)
    return multiple * Dim(f"_{name}", min=max(least // multiple, 1), max=most // multiple)


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
