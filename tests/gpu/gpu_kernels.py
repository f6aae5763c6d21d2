"""The plugins' C interface through ctypes: device pointers in, an exception for a bad status."""

import ctypes
from pathlib import Path

FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2
NCHW, NHWC, NHWC8 = 0, 1, 2
AVERAGE, MAXIMUM = 0, 1

_POINTER, _SIZE, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_float
_SIGNATURES = {
    "trtyard_abi_version": (_INT, []),
    "trtyard_status_string": (ctypes.c_char_p, [_INT]),
    "trtyard_padded_nms_workspace": (_SIZE, [_INT] * 4),
    "trtyard_padded_nms": (
        _INT,
        [_POINTER] * 4 + [_INT] * 5 + [_FLOAT] * 2 + [_INT] * 2 + [_POINTER, _SIZE, _POINTER],
    ),
    "trtyard_roi_align_workspace": (_SIZE, [_INT] * 7),
    "trtyard_roi_align": (
        _INT,
        [_POINTER] * 4 + [_INT] * 7 + [_FLOAT] + [_INT] * 6 + [_POINTER, _SIZE, _POINTER],
    ),
    "trtyard_multiscale_roi_align_workspace": (_SIZE, [_INT] * 3),
    "trtyard_multiscale_roi_align": (
        _INT,
        [_POINTER] * 7 + [_INT] * 13 + [_POINTER, _SIZE, _POINTER],
    ),
}


class Kernels:
    def __init__(self, library: Path) -> None:
        self.path = library
        self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            words = self._library.trtyard_status_string(status).decode()
            raise RuntimeError(f"{name}: status {status}: {words}")

    def padded_nms_workspace(self, batch: int, classes: int, boxes: int, keep_top_k: int) -> int:
        return int(self._library.trtyard_padded_nms_workspace(batch, classes, boxes, keep_top_k))

    def padded_nms(self, *arguments: object) -> None:
        self._call("trtyard_padded_nms", *arguments)

    def roi_align_workspace(self, *sizes: int) -> int:
        return int(self._library.trtyard_roi_align_workspace(*sizes))

    def roi_align(self, *arguments: object) -> None:
        self._call("trtyard_roi_align", *arguments)

    def multiscale_workspace(self, *sizes: int) -> int:
        return int(self._library.trtyard_multiscale_roi_align_workspace(*sizes))

    def multiscale_roi_align(
        self, maps: "list[int]", rois: int, indices: int, pooled: int, heights: "list[int]",
        widths: "list[int]", scales: "list[float]", *others: object,
    ) -> None:  # fmt: skip
        count = len(maps)
        self._call(
            "trtyard_multiscale_roi_align", (_POINTER * count)(*maps), rois, indices, pooled,
            (_INT * count)(*heights), (_INT * count)(*widths), (_FLOAT * count)(*scales), count,
            *others,
        )  # fmt: skip
