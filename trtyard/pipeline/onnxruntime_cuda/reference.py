"""PyTorch on the GPU as a reference: fp32 without TF32, custom ops with the compiled kernels."""

import contextlib
from pathlib import Path
from typing import Any, Iterator, Optional

import torch


@contextlib.contextmanager
def in_full_precision(library: Optional[Path]) -> Iterator[None]:
    """Compute fp32 without TF32 on a GPU, and custom ops with the kernels of ``library``.

    Without ``library``, the kernels in use stay.
    """
    from trtyard.pipeline.ops.cuda import kernels_in_use, use_kernels

    with contextlib.ExitStack() as stack:
        if library is not None:
            stack.callback(use_kernels, kernels_in_use())
            use_kernels(library)
        products: Any = getattr(torch.backends.cuda, "matmul", None)
        for backend in (products, torch.backends.cudnn):
            if hasattr(backend, "allow_tf32"):  # since torch 1.7
                stack.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = False
        yield
