"""PaddedNMS in plain torch: the reference for the kernels and the ONNX function."""

from typing import List, Tuple

import torch

from trtyard.pipeline.torch_support.versions import descending, floor_divided, maximum, minimum

PADDING = -1


def padded_nms_reference(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the survivors of greedy non-maximum suppression per class, merged by score.

    Args:
        boxes: float [B, Cb, N, 4], corners (x1, y1, x2, y2); Cb is C, or 1 for shared boxes.
        scores: float [B, C, N].
        iou_threshold: a box is removed if its IoU with a kept box of its class exceeds this. The
            comparison is in float32, as in torchvision's CUDA kernel. torchvision's CPU kernel
            compares in double, which differs if the IoU is exactly the threshold rounded up.
        score_threshold: only boxes with a higher score take part, never one with a NaN score.
        keep_top_k: K, the number of rows returned for each image.
        box_offset: 1 counts both edge pixels (widths are x2 - x1 + 1), 0 does not.

    Returns:
        indices: int32 [B, K], ``c * N + n`` into ``scores[b]``, by descending score and then by
            index, padded with -1.
        count: int32 [B], how many of them are not padding.

    Raises:
        ValueError: the shapes or attributes do not match.
    """
    check_arguments(boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset)
    indices = [
        _one_image(
            boxes[image].float(),
            scores[image].float(),
            iou_threshold,
            score_threshold,
            keep_top_k,
            box_offset,
        )
        for image in range(scores.shape[0])
    ]
    padded = scores.new_full((scores.shape[0], keep_top_k), PADDING, dtype=torch.int32)
    for row, kept in zip(padded, indices):
        row[: len(kept)] = kept
    count = [len(kept) for kept in indices]
    return padded, torch.tensor(count, dtype=torch.int32, device=scores.device)


def check_arguments(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> None:
    """Raise a ValueError if the shapes or attributes do not match."""
    if scores.dim() != 3 or boxes.dim() != 4 or boxes.shape[3] != 4:
        raise ValueError(
            f"PaddedNMS takes boxes [B, Cb, N, 4] and scores [B, C, N], "
            f"not {list(boxes.shape)} and {list(scores.shape)}"
        )
    batch, classes, count = scores.shape
    if boxes.shape[0] != batch or boxes.shape[2] != count or boxes.shape[1] not in (1, classes):
        raise ValueError(
            f"PaddedNMS: boxes {list(boxes.shape)} do not fit scores {list(scores.shape)}"
        )
    if keep_top_k < 0 or box_offset not in (0, 1):
        raise ValueError(
            f"PaddedNMS: keep_top_k {keep_top_k} must not be negative, "
            f"box_offset {box_offset} must be 0 or 1"
        )
    if iou_threshold != iou_threshold or score_threshold != score_threshold:
        raise ValueError("PaddedNMS: a threshold is NaN")


def _one_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float,
    score_threshold: float,
    keep_top_k: int,
    box_offset: int,
) -> torch.Tensor:
    """Return the kept flat indices, int64 [k], k <= keep_top_k; boxes [Cb, N, 4], scores [C, N]."""
    per_class = scores.shape[1]
    flat_scores = scores.reshape(-1)
    flat = (flat_scores > score_threshold).nonzero(as_tuple=True)[0]
    # Stable: equal scores stay in the order of their index.
    flat = flat[descending(flat_scores[flat])]
    classes = floor_divided(flat, max(per_class, 1))
    own_boxes = boxes[classes if boxes.shape[0] > 1 else torch.zeros_like(classes)]
    corners = own_boxes[torch.arange(len(flat), device=flat.device), flat % max(per_class, 1)]
    x1, y1, x2, y2 = corners.unbind(1)
    areas = (x2 - x1 + box_offset) * (y2 - y1 + box_offset)

    alive = torch.ones_like(flat, dtype=torch.bool)
    kept: List[int] = []
    position = 0
    while position < len(flat) and len(kept) < keep_top_k:
        kept.append(position)
        rest = slice(position + 1, None)
        width = minimum(x2[position], x2[rest]) - maximum(x1[position], x1[rest])
        height = minimum(y2[position], y2[rest]) - maximum(y1[position], y1[rest])
        overlap = (width + box_offset).clamp(min=0) * (height + box_offset).clamp(min=0)
        iou = overlap / (areas[position] + areas[rest] - overlap)
        # A NaN compares as false: it suppresses nothing.
        alive[rest] &= ~((iou > iou_threshold) & (classes[rest] == classes[position]))
        following = alive[rest].nonzero(as_tuple=True)[0]
        if len(following) == 0:
            break
        position += 1 + int(following[0])
    return flat[kept]
