"""The ops in numpy, written from their contracts alone.

padded_nms keeps float32 arithmetic, operation by operation: the op is exact, so the reference is
too. roi_align takes coordinates in float32, where the op's contract has them, and sums in float64,
in the separable form (one weight matrix an axis) that the kernels' sample loop does not share.
"""

import numpy as np

FARTHEST = 2**20  # cells that a corner may be away


def padded_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> "tuple[np.ndarray, np.ndarray]":
    """Float32 boxes [B, Cb, N, 4] and scores [B, C, N] to int32 indices [B, K], count [B]."""
    batch, classes, per_class = scores.shape
    indices = np.full((batch, keep_top_k), -1, np.int32)
    count = np.zeros(batch, np.int32)
    for image in range(batch):
        survivors = []
        for c in range(classes):
            own = boxes[image, c if boxes.shape[1] > 1 else 0]
            kept = _one_class(
                own, scores[image, c], iou_threshold, score_threshold, keep_top_k, box_offset
            )
            survivors += [(-scores[image, c, n], c * per_class + n) for n in kept]
        survivors.sort()  # -0.0 == 0.0 as a sort key, so such scores tie
        best = [flat for _, flat in survivors[:keep_top_k]]
        indices[image, : len(best)] = best
        count[image] = len(best)
    return indices, count


def _one_class(boxes, scores, iou_threshold, score_threshold, limit, box_offset):
    passing = np.flatnonzero(scores > np.float32(score_threshold))
    order = passing[np.argsort(-scores[passing], kind="stable")]
    x1, y1, x2, y2 = boxes[order].astype(np.float32).T
    one = np.float32(box_offset)
    threshold = np.float32(iou_threshold)
    with np.errstate(all="ignore"):
        area = (x2 - x1 + one) * (y2 - y1 + one)
        alive = np.ones(len(order), bool)
        kept = []
        for i in range(len(order)):
            if not alive[i]:
                continue
            kept.append(int(order[i]))
            if len(kept) == limit:
                break
            width = np.minimum(x2[i], x2[i + 1 :]) - np.maximum(x1[i], x1[i + 1 :]) + one
            height = np.minimum(y2[i], y2[i + 1 :]) - np.maximum(y1[i], y1[i + 1 :]) + one
            both = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
            alive[i + 1 :] &= ~(both / (area[i] + area[i + 1 :] - both) > threshold)
    return kept


def roi_align(
    features: np.ndarray,
    rois: np.ndarray,
    batch_indices: np.ndarray,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> np.ndarray:
    """Features [B, C, H, W], float32 rois [R, 4], int32 [R] to float64 [R, C, PH, PW]."""
    channels, height, width = features.shape[1:]
    pooled = np.zeros((len(rois), channels, output_height, output_width))
    rest = spatial_scale, sampling_ratio, aligned
    for r, roi, map_ in _alive(features, rois, batch_indices, spatial_scale):
        down = _weights(_samples(roi[1], roi[3], output_height, height, *rest), height)
        across = _weights(_samples(roi[0], roi[2], output_width, width, *rest), width)
        pooled[r] = down @ map_ @ across.T
    return pooled


def roi_align_maximum(
    features: np.ndarray,
    rois: np.ndarray,
    batch_indices: np.ndarray,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: int,
) -> np.ndarray:
    """The same with mode 1: the largest of the samples' four terms each, as ONNX has it."""
    channels, height, width = features.shape[1:]
    pooled = np.zeros((len(rois), channels, output_height, output_width))
    rest = spatial_scale, sampling_ratio, aligned
    for r, roi, map_ in _alive(features, rois, batch_indices, spatial_scale):
        down = list(_samples(roi[1], roi[3], output_height, height, *rest))
        across = list(_samples(roi[0], roi[2], output_width, width, *rest))
        for p, (rows, row_weights, row_count) in enumerate(down):
            for q, (columns, column_weights, column_count) in enumerate(across):
                terms = map_[:, rows[:, None], columns[None, :]]
                terms *= row_weights[:, None] * column_weights[None, :]
                terms = terms.reshape(channels, -1)
                if terms.shape[1] < 4 * row_count * column_count or terms.shape[1] == 0:
                    terms = np.append(terms, np.zeros((channels, 1)), 1)  # samples outside
                pooled[r, :, p, q] = terms.max(1)
    return pooled


def level_indices(rois, scales, canonical=(224, 4)):
    """The index of each roi's map; -1 for a roi that has none. Float32, each step rounded."""
    f = np.float32
    with np.errstate(all="ignore"):
        area = (rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])
        size = np.sqrt(area) / f(canonical[0])
        logarithm = np.log2(size.astype(np.float64)).astype(np.float32)
        level = np.floor((f(canonical[1]) + logarithm) + f(1e-6))
        levels = [int(-f(np.log2(f(scale)))) for scale in scales]
        index = np.clip(level, levels[0], levels[-1]) - levels[0]
    index = np.where(area >= 0, index, -1).astype(np.int64)
    return np.where(index < len(scales), index, -1)


def multiscale_roi_align(maps, rois, images, output, scales, sampling, aligned, canonical=(224, 4)):
    """Maps [B, C, Hi, Wi], the finest first, to float64 [R, C, *output]."""
    pooled = np.zeros((len(rois), maps[0].shape[1], *output))
    indices = level_indices(rois, scales, canonical)
    for level, (features, scale) in enumerate(zip(maps, scales)):
        own = indices == level
        pooled[own] = roi_align(features, rois[own], images[own], *output, scale, sampling, aligned)
    return pooled


def _alive(features, rois, batch_indices, scale):
    """Give each roi that is no padding: its index, itself, and its image's map in float64."""
    maps = features.astype(np.float64)
    with np.errstate(all="ignore"):
        near = (np.abs(rois.astype(np.float32) * np.float32(scale)) < FARTHEST).all(axis=1)
    for r, (roi, image) in enumerate(zip(rois, batch_indices)):
        if near[r] and 0 <= image < len(maps):
            yield r, roi, maps[image]


def _weights(samples, size):
    """The matrix [bins, size] that takes one axis of the map to bins."""
    bins = list(samples)
    matrix = np.zeros((len(bins), size))
    for row, (cells, weights, count) in zip(matrix, bins):
        np.add.at(row, cells, weights / max(1, count))
    return matrix


def _samples(low, high, bins, size, scale, sampling_ratio, aligned):
    """Give each bin's cells and their weights, two a sample that is inside, and all its samples."""
    f = np.float32
    with np.errstate(all="ignore"):
        shift = f(0.5) if aligned else f(0)
        start = f(low) * f(scale) - shift
        length = (f(high) * f(scale) - shift) - start
        if not aligned and length < 1:
            length = f(1)
        step = length / f(bins)
        samples = sampling_ratio if sampling_ratio > 0 else _adaptive_samples(step)
        for p in range(bins):
            index = np.arange(samples, dtype=np.float32)
            at = (start + f(p) * step) + (index + f(0.5)) * step / f(samples)
            at = at[(at >= -1) & (at <= size)]  # drops NaN too
            at = np.maximum(at, f(0))
            cell = np.minimum(np.floor(at).astype(np.int64), size - 1)
            fraction = np.where(cell >= size - 1, f(0), at - cell.astype(np.float32))
            fraction = fraction.astype(np.float64)
            cells = np.concatenate([cell, np.minimum(cell + 1, size - 1)])
            yield cells, np.concatenate([1.0 - fraction, fraction]), samples


def _adaptive_samples(step):
    return max(0, int(np.ceil(step))) if np.isfinite(step) else 0
