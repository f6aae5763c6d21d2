"""Published checkpoints of e2e_faster_rcnn_R_50_C4_1x.

The network's modules are named after their keys, so there is nothing to translate. The one thing
they hold that is no weight is the table of anchors, which says whether the training had the same.
"""

import torch

from trtyard.pipeline.errors import UsageError
from trtyard.pipeline.models.checkpoint import fit, read_state
from trtyard.pipeline.models.faster_rcnn.anchors import cell_anchors
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN

ANCHORS_KEY = "rpn.anchor_generator.cell_anchors.0"
_ANCHOR_TOLERANCE = 1e-3  # pixels; the table holds whole numbers


def load_weights(network: FasterRCNN, path: str) -> None:
    """Load the checkpoint at ``path``, strictly.

    Raises:
        UsageError: see ``checkpoint.read_state`` and ``checkpoint.fit``; or the checkpoint was
            trained with other anchors.
    """
    state = read_state(path)
    anchors = state.pop(ANCHORS_KEY, None)
    if anchors is not None:
        _check_anchors(anchors, path)
    fit(network, state, path)


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
