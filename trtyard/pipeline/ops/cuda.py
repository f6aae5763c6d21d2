"""The ops on CUDA tensors by the compiled kernel cores, once ``use_kernels`` named a library.

Until then, and for element types that the kernels lack, the references compute on the GPU, too.
"""

from pathlib import Path
from typing import List, Optional

import torch

from trtyard.pipeline.ops.kernels import KernelLibrary

# As in plugins/include/trtyard_kernels.h.
ELEMENT_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

_libraries: List[KernelLibrary] = []  # the one in use, or none


def use_kernels(path: Optional[Path]) -> None:
    """Let the ops on CUDA tensors run the library at ``path``; None: the references again.

    Raises:
        EnvironmentLacksError: the file cannot be loaded, or was built for another interface.
    """
    _libraries[:] = [] if path is None else [KernelLibrary(path)]


def library_for(tensor: torch.Tensor) -> Optional[KernelLibrary]:
    """Return the library in use; None without one, or if it lacks the tensor's type."""
    return _libraries[0] if _libraries and tensor.dtype in ELEMENT_TYPES else None


def workspace_of(size: int, device: torch.device) -> torch.Tensor:
    """Return scratch memory for a kernel, ``size`` bytes."""
    # torch's allocator aligns to 512 bytes, the kernels want 256.
    return torch.empty(max(1, size), dtype=torch.uint8, device=device)
