"""The custom ops' ONNX schemas. The dynamo exporter refuses nodes that have none."""

from typing import Dict, List, Tuple

from onnx.defs import OpSchema, SchemaError, get_schema, register_schema

from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION

_FLOATS = ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")
_INT32 = "tensor(int32)"

_Tensors = List[Tuple[str, str]]
_SCHEMAS: Dict[str, Tuple[_Tensors, _Tensors, Dict[str, OpSchema.AttrType]]] = {
    "PaddedNMS": (
        [("boxes", "T"), ("scores", "T")],
        [("indices", _INT32), ("count", _INT32)],
        {
            "iou_threshold": OpSchema.AttrType.FLOAT,
            "score_threshold": OpSchema.AttrType.FLOAT,
            "keep_top_k": OpSchema.AttrType.INT,
            "box_offset": OpSchema.AttrType.INT,
        },
    ),
    "MaskRcnnROIAlign": (
        [("features", "T"), ("rois", "tensor(float)"), ("batch_indices", _INT32)],
        [("pooled", "T")],
        {
            "output_height": OpSchema.AttrType.INT,
            "output_width": OpSchema.AttrType.INT,
            "spatial_scale": OpSchema.AttrType.FLOAT,
            "sampling_ratio": OpSchema.AttrType.INT,
            "aligned": OpSchema.AttrType.INT,
        },
    ),
}


def register_schemas() -> None:
    """Make both ops known to this process's onnx; a second call changes nothing."""
    for op_type, (inputs, outputs, attributes) in _SCHEMAS.items():
        try:
            get_schema(op_type, DOMAIN_VERSION, DOMAIN)
        except SchemaError:
            register_schema(
                OpSchema(
                    op_type,
                    DOMAIN,
                    DOMAIN_VERSION,
                    inputs=[OpSchema.FormalParameter(*tensor) for tensor in inputs],
                    outputs=[OpSchema.FormalParameter(*tensor) for tensor in outputs],
                    type_constraints=[_FLOATS],
                    attributes=[OpSchema.Attribute(*each) for each in attributes.items()],
                )
            )
