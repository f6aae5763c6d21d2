"""The C functions of MultiscaleRoIAlign, as in plugins/include/trtyard_kernels.h."""

from typing import Any, Sequence, Tuple

from trtyard.pipeline.ops.c_types import FLOAT, INT, POINTER, SIZE

SIGNATURES = {
    "trtyard_multiscale_roi_align_workspace": (SIZE, [INT] * 3),
    "trtyard_multiscale_roi_align": (
        INT,
        [POINTER] * 7 + [INT] * 13 + [POINTER, SIZE, POINTER],
    ),
}


def arguments_of(
    addresses: Sequence[int],
    sizes: Sequence[Tuple[int, int]],
    scales: Sequence[float],
    others: Sequence[Any],
) -> Sequence[Any]:
    """Return the arguments of the kernel before its workspace.

    Args:
        addresses: of the maps, as many as there are levels.
        sizes: height and width of each map.
        scales: of each map.
        others: rois, batch indices and the result, then batch, channels, and what follows.
    """
    count = len(addresses)
    return (
        (POINTER * count)(*addresses),
        *others[:3],
        (INT * count)(*(height for height, _ in sizes)),
        (INT * count)(*(width for _, width in sizes)),
        (FLOAT * count)(*scales),
        count,
        *others[3:],
    )
