"""The custom ops' ONNX schemas. The dynamo exporter refuses nodes that have none."""

from typing import List, Sequence

from onnx.defs import OpSchema, SchemaError, get_schema, register_schema

from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION, FLOATS
from trtyard.pipeline.ops.registry import OPS

_FLOATS = (FLOATS, ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")
_KINDS = {float: OpSchema.AttrType.FLOAT, int: OpSchema.AttrType.INT}


def register_schemas() -> None:
    """Make the ops known to this process's onnx; a second call changes nothing."""
    for op in OPS:
        try:
            get_schema(op.op_type, DOMAIN_VERSION, DOMAIN)
        except SchemaError:
            register_schema(
                OpSchema(
                    op.op_type,
                    DOMAIN,
                    DOMAIN_VERSION,
                    inputs=_parameters(op.inputs, op.input_types),
                    outputs=_parameters(op.outputs, op.output_types),
                    type_constraints=[_FLOATS],
                    attributes=[
                        OpSchema.Attribute(name, _KINDS[kind], required=name not in op.optional)
                        for name, kind in op.attributes
                    ],
                )
            )


def _parameters(names: Sequence[str], types: Sequence[str]) -> List[OpSchema.FormalParameter]:
    return [OpSchema.FormalParameter(name, kind) for name, kind in zip(names, types)]
