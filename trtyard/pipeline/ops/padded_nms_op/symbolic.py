"""Set types and shapes of PaddedNMS's outputs in the graph of the TorchScript exporter."""

from typing import Any, Sequence

import torch

from trtyard.pipeline.ops.padded_nms_op.contract import OP
from trtyard.pipeline.torch_support.versions import set_type, size_of


def set_types(arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Set the types of the indices and the count."""
    (_, scores), values = OP.apart(arguments)
    batch = size_of(scores, 0)
    set_type(outputs[0], scores, [batch, values["keep_top_k"]], torch.int32)
    set_type(outputs[1], scores, [batch], torch.int32)
