"""Choose rows with static shapes, and the same rows in every runtime."""

from typing import List, Optional, Tuple

import torch

from trtyard.pipeline.torch_support.versions import as_index, smallest

# "K exceeds the maximum value allowed (3840)": TensorRT's ONNX parser refuses a TopK above
# it, in every release up to 11; its ITopKLayer documents the same limit.
TENSORRT_TOPK_LIMIT = 3840

# Replaces values that an earlier piece has taken; below every input value.
_TAKEN = -1.0

# Whole numbers up to here are exact in float32.
_EXACT_IN_FLOAT32 = 1 << 24


def highest(scores: torch.Tensor, count: int, keep: int) -> torch.Tensor:
    """Return the indices of the ``keep`` highest scores of each row; ties go to the lower index.

    TopK breaks ties differently in torch, ONNX Runtime and TensorRT, and a picture with a plain
    area has many anchors with equal scores. So TopK runs twice: once to find the K-th highest
    value, and once on keys without ties. The keys order scores above that value first, then scores
    equal to it, each by index.

    Args:
        scores: float32 [B, N], none below 0.
        count: N, as a Python number.
        keep: K, at most N.

    Returns:
        int64 [B, K], not sorted by score, because the callers sort. Of two equal scores, the one
        with the lower index comes first.
    """
    if 2 * count >= _EXACT_IN_FLOAT32:
        raise ValueError(f"{count} scores are too many to number them in float32")
    if keep >= count:
        return torch.arange(count, device=scores.device).expand(scores.shape[0], count)
    last_kept = kth_highest(scores, keep)
    # [1, N]: TensorRT 7.0's parser supports Where only for tensors of one rank.
    if_tied = torch.arange(count, 0, -1, dtype=torch.float32, device=scores.device)[None]
    never = torch.zeros_like(if_tied)
    # Not ``==``: before opset 11 ONNX compares only integers with it.
    key = torch.where(scores >= last_kept, if_tied, never)
    key = torch.where(scores > last_kept, if_tied + count, key)
    return top_k(key, keep)[1]


def kth_highest(values: torch.Tensor, keep: int) -> torch.Tensor:
    """Return the K-th highest value of each row. Equal values count separately.

    Each further piece uses only values below the last piece's lowest value. Scatter could remove
    exactly the values found, but no TensorRT before 8.2 has it. If several values equal the lowest,
    more values are removed than found, so the removed ones are counted.

    Args:
        values: float32 [B, N], none below 0.
        keep: K, at most N.

    Returns:
        float32 [B, 1].
    """
    size, *others = _pieces(keep)
    found = lowest = torch.topk(values, size, dim=1)[0][:, size - 1 :]
    none, one = torch.zeros_like(values), torch.ones_like(values)
    for size in others:
        gone = torch.where(values < lowest, none, one).sum(dim=1, keepdim=True)
        piece = torch.topk(_below(values, lowest), size, dim=1)[0]
        position = torch.arange(size, dtype=torch.float32, device=values.device)[None]
        found = smallest(torch.where(position < keep - gone, piece, found))[:, None]
        lowest = piece[:, size - 1 :]
    return found


def top_k(values: torch.Tensor, keep: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return ``torch.topk`` along dimension 1, in pieces that TensorRT can build.

    Args:
        values: float32 [B, N], none below 0; the K highest of a row all differ.
        keep: K, at most N.

    Returns:
        values: float32 [B, K], descending.
        indices: int64 [B, K].
    """
    pieces = []
    for size in _pieces(keep):
        piece = torch.topk(values, size, dim=1)
        pieces.append(piece)
        values = _below(values, piece[0][:, size - 1 :])
    if len(pieces) == 1:
        return pieces[0][0], pieces[0][1]
    return torch.cat([one[0] for one in pieces], dim=1), torch.cat(
        [one[1] for one in pieces], dim=1
    )


def _pieces(keep: int) -> List[int]:
    return [min(TENSORRT_TOPK_LIMIT, keep - at) for at in range(0, keep, TENSORRT_TOPK_LIMIT)]


def _below(values: torch.Tensor, lowest: torch.Tensor) -> torch.Tensor:
    """Return the values [B, N], with those at or above ``lowest`` [B, 1] replaced."""
    return torch.where(values < lowest, values, torch.full_like(values, _TAKEN))


def take_rows(table: torch.Tensor, rows: torch.Tensor, batch: Optional[int]) -> torch.Tensor:
    """Return ``table[b, rows[b]]`` for every image b, as one gather.

    Args:
        table: [B, N, ...].
        rows: int32 or int64 [B, K], each from 0 to N - 1.
        batch: B, as a Python number; None if it varies.
    """
    rows = as_index(rows)
    if batch is None:
        return _take_rows_of_any(table, rows)
    if batch == 1:
        return torch.index_select(table, 1, rows[0])
    return torch.stack([torch.index_select(table[b], 0, rows[b]) for b in range(batch)])


def _take_rows_of_any(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return ``take_rows`` for a batch that varies: all images' rows in one table."""
    batch, count = table.shape[:2]
    first = torch.arange(batch, dtype=rows.dtype, device=rows.device)[:, None] * count
    flat = table.reshape(-1, *table.shape[2:])
    taken = torch.index_select(flat, 0, (rows + first).reshape(-1))
    return taken.reshape(-1, rows.shape[1], *table.shape[2:])
