"""The custom ops as functions: ``from trtyard.pipeline.ops import padded_nms, roi_align``.

Importing one from here also registers its torch operator, such as ``trtyard::padded_nms``.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Optional

    from trtyard.pipeline.ops.multiscale_roi_align_op.torch_op import (
        multiscale_roi_align as multiscale_roi_align,
    )
    from trtyard.pipeline.ops.padded_nms_op.torch_op import padded_nms as padded_nms
    from trtyard.pipeline.ops.roi_align_op.torch_op import roi_align as roi_align

    def use_kernels(path: Optional[Path]) -> None:
        """See ``trtyard.pipeline.ops.cuda``."""


class _Ops(types.ModuleType):
    """Imports an op on first access.

    The runtime image imports the contracts and kernels from this package and has no torch. A
    module's own ``__getattr__`` would need Python 3.7.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "use_kernels":
            value = importlib.import_module(f"{__name__}.cuda").use_kernels
        else:
            registry = importlib.import_module(f"{__name__}.registry")
            if name not in registry.NAMES:
                raise AttributeError(f"module {__name__} has no attribute {name}")
            value = registry.torch_op(name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Ops
