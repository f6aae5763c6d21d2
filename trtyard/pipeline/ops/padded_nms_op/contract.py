"""The ONNX contract of PaddedNMS."""

from trtyard.pipeline.ops.contract import FLOATS, INT32, Op

OP = Op(
    name="padded_nms",
    op_type="PaddedNMS",
    inputs=("boxes", "scores"),
    input_types=(FLOATS, FLOATS),
    outputs=("indices", "count"),
    output_types=(INT32, INT32),
    attributes=(
        ("iou_threshold", float),
        ("score_threshold", float),
        ("keep_top_k", int),
        ("box_offset", int),
    ),
)
