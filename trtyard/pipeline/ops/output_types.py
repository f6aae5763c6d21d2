"""Types and shapes of the two ops' outputs in the graph of the TorchScript exporter.

The exporter knows nothing of such a node; without these it calls every size after it open.
"""

from typing import Any, Sequence

import torch

from trtyard.pipeline.ops.contracts import PADDED_NMS, ROI_ALIGN
from trtyard.pipeline.torch_support.versions import set_type, size_of


def set_padded_nms_types(arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Give PaddedNMS's indices and count their types.

    Args:
        arguments: of the op, as the exporter has them: tensors of the graph, and plain values.
        outputs: of the node in the graph.
    """
    (_, scores), values = PADDED_NMS.apart(arguments)
    batch = size_of(scores, 0)
    set_type(outputs[0], scores, [batch, values["keep_top_k"]], torch.int32)
    set_type(outputs[1], scores, [batch], torch.int32)


def set_roi_align_types(arguments: Sequence[Any], pooled: Any) -> None:
    """Give MaskRcnnROIAlign's output its type; see above."""
    (features, rois, _), values = ROI_ALIGN.apart(arguments)
    sizes = [size_of(rois, 0), size_of(features, 1)]
    set_type(pooled, features, [*sizes, values["output_height"], values["output_width"]])
