"""The C functions of MaskRcnnROIAlign, as in plugins/include/trtyard_kernels.h."""

from trtyard.pipeline.ops.c_types import FLOAT, INT, POINTER, SIZE

SIGNATURES = {
    "trtyard_roi_align_workspace": (SIZE, [INT] * 7),
    "trtyard_roi_align": (
        INT,
        [POINTER] * 4 + [INT] * 7 + [FLOAT] + [INT] * 6 + [POINTER, SIZE, POINTER],
    ),
}
