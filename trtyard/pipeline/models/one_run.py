"""Runs of a module that leave no trace: neither on their inputs nor on the module's buffers."""

import contextlib
from typing import Any, Iterator, List, Sequence

import torch
from torch import nn


def run_once(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """Return what ``module`` gives for copies of ``inputs``, which it may change in place."""
    with torch.no_grad():
        return module(*[value.clone() for value in inputs])


@contextlib.contextmanager
def buffers_kept(module: nn.Module) -> Iterator[List[str]]:
    """Give every buffer its value back when the block ends.

    So every run starts alike: a counter or a running mean that ``forward`` changes would else make
    each run, and what an exporter writes, another one. What is given is a list; after the block it
    holds the names of the buffers that were changed in it.
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
    """Tell whether two tensors hold the same, NaN being NaN."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return bool(((left == right) | ((left != left) & (right != right))).all())
