"""Anchor boxes: fifteen for each feature cell, with the rounding of py-faster-rcnn."""

import numpy as np
import torch

from trtyard.pipeline.models.faster_rcnn.conventions import ANCHOR_RATIOS, ANCHOR_SIZES, STRIDE


def cell_anchors() -> torch.Tensor:
    """Return the first cell's anchors, float32 [15, 4] (x1, y1, x2, y2), by ratio, then size.

    Widths and heights count both edge pixels. They are rounded once for each ratio, at the size of
    a cell, and then scaled without rounding. Source: py-faster-rcnn's table, whose row for ratio
    0.5 and size 128 is (-84, -40, 99, 55).
    """
    center = 0.5 * (STRIDE - 1)
    rows = []
    for ratio in ANCHOR_RATIOS:
        base_width = np.round(np.sqrt(STRIDE * STRIDE / ratio))
        base_height = np.round(base_width * ratio)
        for size in ANCHOR_SIZES:
            half_width = 0.5 * (base_width * size / STRIDE - 1)
            half_height = 0.5 * (base_height * size / STRIDE - 1)
            rows.append(
                (
                    center - half_width,
                    center - half_height,
                    center + half_width,
                    center + half_height,
                )
            )
    return torch.tensor(rows, dtype=torch.float32)


def grid_anchors(rows: int, columns: int) -> torch.Tensor:
    """Return the anchors of a feature map, float32 [rows * columns * 15, 4], cell by cell.

    Anchors that reach beyond the picture are kept. Only training removes them.
    """
    y = torch.arange(0, rows * STRIDE, STRIDE, dtype=torch.float32)[:, None].expand(rows, columns)
    x = torch.arange(0, columns * STRIDE, STRIDE, dtype=torch.float32)[None].expand(rows, columns)
    shifts = torch.stack((x, y, x, y), dim=2).reshape(-1, 1, 4)
    return (shifts + cell_anchors()[None]).reshape(-1, 4)
