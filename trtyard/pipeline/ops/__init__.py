"""The two custom ops, as torch operators ``trtyard::padded_nms`` and ``trtyard::roi_align``."""

from trtyard.pipeline.ops.cuda import use_kernels
from trtyard.pipeline.torch_support.versions import HAS_CUSTOM_OP

if HAS_CUSTOM_OP:
    from trtyard.pipeline.ops.library import padded_nms, roi_align
else:
    from trtyard.pipeline.ops.functions import padded_nms, roi_align

__all__ = ["padded_nms", "roi_align", "use_kernels"]
