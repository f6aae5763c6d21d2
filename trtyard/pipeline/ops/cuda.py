"""Run the ops on CUDA tensors with the compiled kernels, after ``use_kernels`` selects a library.

Before that, and for element types that the kernels do not support, the references run on the GPU.
"""

from pathlib import Path
from typing import List, Optional, Sequence

import torch

from trtyard.pipeline.ops.contract import Op
from trtyard.pipeline.ops.kernels import KernelLibrary

# As in plugins/include/trtyard_kernels.h.
ELEMENT_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

_libraries: List[KernelLibrary] = []  # the one in use, or none


def use_kernels(path: Optional[Path]) -> None:
    """Run the ops on CUDA tensors with the library at ``path``; None selects the references.

    Raises:
        EnvironmentLacksError: the file cannot be loaded, or was built for another interface.
    """
    _libraries[:] = [] if path is None else [KernelLibrary(path)]


def kernels_in_use() -> Optional[Path]:
    """Return the library that ``use_kernels`` has chosen, or None."""
    return _libraries[0].path if _libraries else None


def library_for(tensor: torch.Tensor) -> Optional[KernelLibrary]:
    """Return the library in use; None if there is none or it does not support the tensor's type."""
    return _libraries[0] if _libraries and tensor.dtype in ELEMENT_TYPES else None


def refuse_other_devices(op: Op, tensors: Sequence[torch.Tensor]) -> None:
    """Raise a ValueError if the tensors are not on one device: a kernel gets their addresses."""
    devices = [str(each.device) for each in tensors]
    if len(set(devices)) > 1:
        raise ValueError(f"{op.op_type}: the tensors must be on one device, not {devices}")


def workspace_of(size: int, device: torch.device) -> torch.Tensor:
    """Return ``size`` bytes of scratch memory for a kernel."""
    # torch's allocator aligns to 512 bytes. The kernels need 256.
    return torch.empty(max(1, size), dtype=torch.uint8, device=device)
