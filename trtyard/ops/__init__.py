"""The custom ops for models of your own: ``from trtyard.ops import padded_nms, roi_align``.

Each runs in PyTorch and becomes a node of the ONNX file. docs/detectors.md has examples; the
contracts are in plugins/<op>/README.md.
"""

from trtyard.pipeline.ops.multiscale_roi_align_op.torch_op import multiscale_roi_align
from trtyard.pipeline.ops.padded_nms_op.torch_op import padded_nms
from trtyard.pipeline.ops.roi_align_op.torch_op import roi_align

__all__ = ["multiscale_roi_align", "padded_nms", "roi_align"]
