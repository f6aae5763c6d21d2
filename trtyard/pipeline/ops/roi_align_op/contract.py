"""The ONNX contract of MaskRcnnROIAlign."""

from trtyard.pipeline.ops.contract import FLOAT32, FLOATS, INT32, Op

OP = Op(
    name="roi_align",
    op_type="MaskRcnnROIAlign",
    inputs=("features", "rois", "batch_indices"),
    input_types=(FLOATS, FLOAT32, INT32),
    outputs=("pooled",),
    output_types=(FLOATS,),
    attributes=(
        ("output_height", int),
        ("output_width", int),
        ("spatial_scale", float),
        ("sampling_ratio", int),
        ("aligned", int),
        ("mode", int),
    ),
    optional=("mode",),
)
