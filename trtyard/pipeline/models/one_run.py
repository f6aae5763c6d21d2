"""Run a module without changing its inputs or buffers."""

import contextlib
from typing import Any, Iterator, List, Sequence

import torch
from torch import nn


def run_once(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """Return the output of ``module`` for copies of ``inputs``, which it may change in place."""
    with torch.no_grad():
        return module(*[value.clone() for value in inputs])


@contextlib.contextmanager
def buffers_kept(module: nn.Module) -> Iterator[List[str]]:
    """Restore every buffer's value when the block ends.

    So every run starts from the same state. A counter or a running mean that ``forward`` changes
    would otherwise make each run and each export different. The block gets a list, which has the
    names of the changed buffers afterwards.
    """
    kept = [
        (owner, name, ".".join(filter(None, (prefix, name))), buffer, buffer.clone())
        for prefix, owner in module.named_modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    changed: List[str] = []
    try:
        yield changed
    finally:
        with torch.no_grad():
            for owner, name, full_name, buffer, value in kept:
                now = owner._buffers[name]
                if now is None or not _equal(now, value):
                    changed.append(full_name)
                if not _equal(buffer, value):
                    buffer.copy_(value)
                if now is not buffer:
                    setattr(owner, name, buffer)


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether two tensors are equal. NaN equals NaN."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return bool(((left == right) | ((left != left) & (right != right))).all())
