"""The C functions of PaddedNMS, as in plugins/include/trtyard_kernels.h."""

from trtyard.pipeline.ops.c_types import FLOAT, INT, POINTER, SIZE

SIGNATURES = {
    "trtyard_padded_nms_workspace": (SIZE, [INT] * 4),
    "trtyard_padded_nms": (
        INT,
        [POINTER] * 4 + [INT] * 5 + [FLOAT] * 2 + [INT] * 2 + [POINTER, SIZE, POINTER],
    ),
}
