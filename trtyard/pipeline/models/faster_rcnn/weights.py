"""Load published checkpoints of e2e_faster_rcnn_R_50_C4_1x.

The network's modules are named after the checkpoints' keys, so no renaming is needed. The only
entry that is not a weight is the table of anchors, which must match the network's.
"""

from typing import Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint import fit, read_checkpoint
from trtyard.pipeline.models.faster_rcnn.anchors import cell_anchors
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN

ANCHORS_KEY = "rpn.anchor_generator.cell_anchors.0"
_ANCHOR_TOLERANCE = 1e-3  # pixels; the table has whole numbers


def load_weights(network: FasterRCNN, path: str, key: str = "") -> Tuple[str, ...]:
    """Load the checkpoint at ``path`` strictly into ``network``, and return notes for the report.

    Args:
        network: changed in place.
        path: of the file.
        key: of the weights in the file; empty if it has one set of them.

    Raises:
        UsageError: see ``checkpoint.read_checkpoint`` and ``checkpoint.fit``; or the checkpoint was
            trained with other anchors.
    """
    state, notes = read_checkpoint(path, key)
    anchors = state.pop(ANCHORS_KEY, None)
    if anchors is not None:
        _check_anchors(anchors, path)
    fit(network, state, path)
    return notes


def _check_anchors(anchors: torch.Tensor, path: str) -> None:
    own = cell_anchors()
    if anchors.shape != own.shape or not torch.allclose(
        anchors.to(own.dtype), own, rtol=0.0, atol=_ANCHOR_TOLERANCE
    ):
        raise UsageError(
            f"{path} was trained with other anchors: {ANCHORS_KEY} {list(anchors.shape)} differs "
            f"from the table of R50-C4 {list(own.shape)}",
            "give a checkpoint of e2e_faster_rcnn_R_50_C4_1x",
        )
