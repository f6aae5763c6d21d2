"""The custom ops' ONNX schemas. The dynamo exporter refuses nodes that have none."""

from typing import List, Sequence

from onnx.defs import OpSchema, SchemaError, get_schema, register_schema

from trtyard.pipeline.ops.contracts import DOMAIN, DOMAIN_VERSION, PADDED_NMS, ROI_ALIGN

_FLOATS = ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")
_INT32 = "tensor(int32)"

# Inputs and outputs in order.
_TYPES = {
    PADDED_NMS: (["T", "T"], [_INT32, _INT32]),
    ROI_ALIGN: (["T", "tensor(float)", _INT32], ["T"]),
}
_KINDS = {float: OpSchema.AttrType.FLOAT, int: OpSchema.AttrType.INT}


def register_schemas() -> None:
    """Make both ops known to this process's onnx; a second call changes nothing."""
    for op, (inputs, outputs) in _TYPES.items():
        try:
            get_schema(op.op_type, DOMAIN_VERSION, DOMAIN)
        except SchemaError:
            register_schema(
                OpSchema(
                    op.op_type,
                    DOMAIN,
                    DOMAIN_VERSION,
                    inputs=_parameters(op.inputs, inputs),
                    outputs=_parameters(op.outputs, outputs),
                    type_constraints=[_FLOATS],
                    attributes=[
                        OpSchema.Attribute(name, _KINDS[kind], required=name not in op.optional)
                        for name, kind in op.attributes
                    ],
                )
            )


def _parameters(names: Sequence[str], types: Sequence[str]) -> List[OpSchema.FormalParameter]:
    return [OpSchema.FormalParameter(name, kind) for name, kind in zip(names, types)]
