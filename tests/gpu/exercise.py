"""Drive every kernel once over sizes that reach each of its paths, and compare with the reference.

    python3 tests/gpu/exercise.py LIBRARY [--plant]

Made to run under compute-sanitizer. --plant gives the kernels less workspace than it tells them, to
see that a sanitizer finds it. Ends with 0 when every case agrees.
"""

import math
import sys
from pathlib import Path

import gpu_reference as reference
import numpy as np
from cuda_driver import Driver
from gpu_kernels import AVERAGE, FLOAT16, FLOAT32, MAXIMUM, NCHW, NHWC, NHWC8, Kernels

PLANTED_SHORTAGE = 512  # bytes

NMS_CASES = [  # batch, classes, box classes, boxes, keep, offset
    (1, 1, 1, 1, 1, 0),
    (1, 1, 1, 33, 100, 1),
    (2, 3, 1, 70, 10, 0),
    (1, 1, 1, 1000, 100, 0),
    (1, 20, 20, 130, 50, 1),
    (1, 1, 1, 2049, 300, 0),
    (2, 2, 1, 5000, 400, 1),
    (1, 1, 1, 4500, 3000, 0),
    (1, 33, 1, 2050, 20, 0),
    (2, 4, 4, 0, 7, 0),
    (1, 2, 1, 9, 0, 0),
]
# batch, channels, height, width, rois, output height, output width, sampling, aligned
ROI_CASES = [
    (1, 1, 1, 1, 1, 1, 1, 0, 0),
    (2, 5, 13, 17, 9, 7, 7, 0, 1),
    (1, 33, 50, 50, 6, 14, 14, 2, 0),
    (1, 3, 9, 31, 5, 3, 5, 3, 1),
    (1, 64, 25, 25, 4, 7, 7, 0, 0),
    (0, 4, 5, 5, 3, 2, 2, 0, 0),
    (1, 9, 40, 40, 8, 2, 2, 0, 1),
    (2, 3, 84, 50, 8, 14, 14, 2, 0),
    (1, 2, 120, 120, 8, 7, 7, 2, 0),
    (1, 3, 9, 9, 5, 17, 2, 1, 0),
    (1, 5, 190, 180, 6, 7, 7, 0, 0),
    (2, 17, 160, 210, 9, 14, 14, 2, 1),
]
# batch, channels, picture height and width, rois, output height, output width, sampling, aligned
MULTISCALE_CASES = [
    (2, 5, 64, 96, 9, 7, 7, 2, 0),
    (1, 33, 200, 304, 30, 7, 7, 0, 1),
    (1, 70, 120, 80, 12, 14, 14, 2, 0),
    (2, 8, 40, 40, 8, 2, 20, 2, 0),
    (1, 9, 17, 9, 3, 3, 5, 1, 0),
    (2, 64, 128, 160, 40, 7, 7, 2, 0),
    (1, 128, 150, 270, 50, 5, 8, 2, 1),
]
MULTISCALE_SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
# The first rois of each case: out of reach, much larger than any map, inside out on one axis.
UNUSUAL = np.float32([[-2e38, 0, 2e38, 9], [-3e5, -4e5, 3e5, 2e5], [90, 20, 30, 80]])
FORMATS = [
    (AVERAGE, NCHW, NCHW),
    (AVERAGE, NCHW, NHWC8),
    (AVERAGE, NHWC, NCHW),
    (AVERAGE, NHWC8, NHWC8),
    (MAXIMUM, NHWC, NHWC8),
]


def nms_case(driver: Driver, kernels: Kernels, case, dtype, shortage: int) -> bool:
    batch, classes, box_classes, count, keep, offset = case
    random = np.random.default_rng(count * 1000 + classes)
    element = np.float16 if dtype == FLOAT16 else np.float32
    corner = random.uniform(0, 200, (batch, box_classes, count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 60, corner.shape)], -1)
    boxes = boxes.astype(element)
    scores = random.integers(0, 50, (batch, classes, count)).astype(element) / element(50)
    needed = kernels.padded_nms_workspace(batch, classes, count, keep)
    pointers = [
        driver.upload(boxes),
        driver.upload(scores),
        driver.allocate(batch * keep * 4),
        driver.allocate(batch * 4),
    ]
    workspace = driver.allocate(max(0, needed - shortage))
    kernels.padded_nms(
        *pointers, batch, classes, box_classes, count, keep, 0.5, 0.1, offset, dtype, workspace,
        needed, driver.stream,
    )  # fmt: skip
    indices = driver.download(pointers[2], (batch, keep), np.int32)
    counts = driver.download(pointers[3], (batch,), np.int32)
    driver.free(*pointers, workspace)
    expected = reference.padded_nms(
        boxes.astype(np.float32), scores.astype(np.float32), 0.5, 0.1, keep, offset
    )
    return np.array_equal(indices, expected[0]) and np.array_equal(counts, expected[1])


def in_format(values, layout):
    """[N, C, H, W] as it lies in memory; padding is NaN."""
    if layout == NCHW:
        return values
    padding = -values.shape[1] % 8 if layout == NHWC8 else 0
    last = values.transpose(0, 2, 3, 1)
    return np.pad(last, ((0, 0),) * 3 + ((0, padding),), constant_values=np.nan)


def roi_case(driver: Driver, kernels: Kernels, case, dtype, mode, given, taken) -> bool:
    batch, channels, height, width, count, out_height, out_width, sampling, aligned = case
    random = np.random.default_rng(count * 1000 + channels)
    element = np.float16 if dtype == FLOAT16 else np.float32
    features = random.standard_normal((batch, channels, height, width)).astype(element)
    rois = random.uniform(-20, 16 * (max(height, width) + 2), (count, 4)).astype(np.float32)
    rois.sort(axis=1)
    rois[: len(UNUSUAL)] = UNUSUAL[: len(rois)]
    image = random.integers(-1, max(1, batch), count).astype(np.int32)
    whole = in_format(np.zeros((count, channels, out_height, out_width), element), taken)
    needed = kernels.roi_align_workspace(
        batch, channels, height, width, count, out_height, out_width
    )
    pointers = [
        driver.upload(np.ascontiguousarray(in_format(features, given))),
        driver.upload(rois),
        driver.upload(image),
        driver.allocate(whole.nbytes),
    ]
    # initcheck does not see what bulk copies write: it would call all of the result unwritten.
    driver.poison(pointers[3], whole.nbytes)
    workspace = driver.allocate(needed)
    kernels.roi_align(
        *pointers, batch, channels, height, width, count, out_height, out_width, 0.0625, sampling,
        aligned, mode, dtype, given, taken, workspace, needed, driver.stream,
    )  # fmt: skip
    pooled = driver.download(pointers[3], whole.shape, element).astype(np.float64)
    driver.free(*pointers, workspace)
    compute = reference.roi_align if mode == AVERAGE else reference.roi_align_maximum
    expected = compute(features, rois, image, out_height, out_width, 0.0625, sampling, aligned)
    expected = np.nan_to_num(in_format(expected, taken))  # padding is zeros
    tolerance = 2e-3 if dtype == FLOAT16 else 1e-5
    return bool(np.allclose(pooled, expected, rtol=tolerance, atol=tolerance))


def multiscale_case(driver: Driver, kernels: Kernels, case, dtype, given, taken) -> bool:
    batch, channels, height, width, count, out_height, out_width, sampling, aligned = case
    random = np.random.default_rng(count * 1000 + channels)
    element = np.float16 if dtype == FLOAT16 else np.float32
    maps = [
        random.standard_normal(
            (batch, channels, *(math.ceil(side * scale) for side in (height, width)))
        ).astype(element)
        for scale in MULTISCALE_SCALES
    ]
    side = 4 * (max(height, width) / 2) ** random.random((count, 1))
    middle = random.uniform(0, 1, (count, 2)) * (width, height)
    rois = np.concatenate([middle - side / 2, middle + side / 2], 1).astype(np.float32)
    rois[: len(UNUSUAL)] = UNUSUAL[: len(rois)]
    image = random.integers(-1, batch, count).astype(np.int32)
    whole = in_format(np.zeros((count, channels, out_height, out_width), element), taken)
    needed = kernels.multiscale_workspace(count, out_height, out_width)
    uploaded = [driver.upload(np.ascontiguousarray(in_format(each, given))) for each in maps]
    pointers = [driver.upload(rois), driver.upload(image), driver.allocate(whole.nbytes)]
    driver.poison(pointers[2], whole.nbytes)
    workspace = driver.allocate(max(1, needed))
    kernels.multiscale_roi_align(
        uploaded, *pointers, [each.shape[2] for each in maps], [each.shape[3] for each in maps],
        MULTISCALE_SCALES, batch, channels, count, out_height, out_width, sampling, aligned, 100, 3,
        dtype, given, taken, workspace, needed, driver.stream,
    )  # fmt: skip
    pooled = driver.download(pointers[2], whole.shape, element).astype(np.float64)
    driver.free(*uploaded, *pointers, workspace)
    expected = reference.multiscale_roi_align(
        maps, rois, image, (out_height, out_width), MULTISCALE_SCALES, sampling, aligned, (100, 3)
    )
    expected = np.nan_to_num(in_format(expected, taken))
    tolerance = 2e-3 if dtype == FLOAT16 else 1e-5
    return bool(np.allclose(pooled, expected, rtol=tolerance, atol=tolerance))


def main(library: Path, planted: bool) -> int:
    driver, kernels = Driver(), Kernels(library)
    shortage = PLANTED_SHORTAGE if planted else 0
    failed = []
    for dtype in (FLOAT32, FLOAT16):
        for case in NMS_CASES:
            if not nms_case(driver, kernels, case, dtype, shortage):
                failed.append(("padded_nms", dtype, case))
        for case in ROI_CASES:
            for formats in FORMATS:
                if not roi_case(driver, kernels, case, dtype, *formats):
                    failed.append(("roi_align", dtype, case, formats))
        for case in MULTISCALE_CASES:
            for _, *formats in FORMATS[:4]:
                if not multiscale_case(driver, kernels, case, dtype, *formats):
                    failed.append(("multiscale_roi_align", dtype, case, formats))
    cases = len(NMS_CASES) + len(ROI_CASES) * len(FORMATS) + len(MULTISCALE_CASES) * 4
    cases *= 2
    sys.stdout.write("\n".join([f"{cases} cases, {len(failed)} failed", *map(str, failed), ""]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--plant" in sys.argv[2:]))
