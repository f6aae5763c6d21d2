"""The ONNX contract of MultiscaleRoIAlign."""

from trtyard.pipeline.ops.contract import FLOAT32, FLOATS, INT32, Op

# A node always has this many maps. With fewer levels, the last map is repeated and the scale of
# the repeated ones is 0. Function bodies and plugins then need no variable number of inputs.
MOST_LEVELS = 5
LEAST_LEVELS = 2

MAPS = tuple(f"features_{level}" for level in range(MOST_LEVELS))
SCALES = tuple(f"scale_{level}" for level in range(MOST_LEVELS))

OP = Op(
    name="multiscale_roi_align",
    op_type="MultiscaleRoIAlign",
    inputs=(*MAPS, "rois", "batch_indices"),
    input_types=(*[FLOATS] * MOST_LEVELS, FLOAT32, INT32),
    outputs=("pooled",),
    output_types=(FLOATS,),
    attributes=(
        ("output_height", int),
        ("output_width", int),
        ("sampling_ratio", int),
        ("aligned", int),
        ("canonical_scale", int),
        ("canonical_level", int),
        *((scale, float) for scale in SCALES),
    ),
    optional=SCALES[LEAST_LEVELS:],
)
