"""Sort scores in one order in every runtime."""

import torch


def descending_in_turn(scores: torch.Tensor, turns: torch.Tensor, count: int) -> torch.Tensor:
    """Return the indices that sort each row's scores, highest first, equal ones by turn.

    TopK defines no order of equal scores, so it sorts by the number of scores that come before.

    Args:
        scores: float32 [B, N].
        turns: float32 [B, N] or [1, N]. Equal scores of equal turn keep their order.
        count: N, as a Python number.

    Returns:
        int64 [B, N].
    """
    places = torch.arange(count, dtype=scores.dtype, device=scores.device)[None]
    score, others = scores[:, :, None], scores[:, None]
    turn, other_turns = turns[:, :, None], turns[:, None]
    # Not ``==``: before opset 11 ONNX compares only integers with it.
    earlier_place = places[:, :, None] > places[:, None]
    earlier_turn = (turn > other_turns) | ((turn >= other_turns) & earlier_place)
    earlier = (score < others) | ((score <= others) & earlier_turn)
    before = earlier.to(scores.dtype).sum(dim=2)
    return torch.topk(count - before, count, dim=1)[1]
