"""Set type and shape of MultiscaleRoIAlign's output in the graph of the TorchScript exporter."""

from typing import Any, Sequence

from trtyard.pipeline.ops.multiscale_roi_align_op.contract import OP
from trtyard.pipeline.torch_support.versions import set_type, size_of


def set_types(arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Set the type of the pooled features."""
    (features, *_, rois, _), values = OP.apart(arguments)
    sizes = [size_of(rois, 0), size_of(features, 1)]
    set_type(outputs[0], features, [*sizes, values["output_height"], values["output_width"]])
