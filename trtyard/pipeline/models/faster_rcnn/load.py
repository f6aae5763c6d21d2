"""The detector as a model to convert: network, weights and a picture's input."""

from typing import Optional, Tuple

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.families.faster_rcnn import KIND
from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.network import INPUT_NAMES, OUTPUT_NAMES, FasterRCNN
from trtyard.pipeline.models.faster_rcnn.preprocess import network_input
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.seeded import seed_weights
from trtyard.pipeline.models.faster_rcnn.weights import load_weights
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.picture import Picture, fitted, read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice

NAME = "faster_rcnn"

# Random weights find nothing more in a larger picture, and cost as much again to compare.
SEEDED_SHORTER_SIDE = 512
# Below this the feature map has fewer than four cells a side.
MINIMUM_SHORTER_SIDE = 64
MAXIMUM_TOP_N = c.CANDIDATES


def load_faster_rcnn(
    choice: Choice, image: Optional[str], size: Optional[int], top_n: Optional[int]
) -> Model:
    """Return Faster R-CNN for one picture.

    Args:
        choice: seeded weights or a checkpoint.
        image: path of a picture; None for the default one.
        size: shorter side of the network's input; None for 800 with a checkpoint, 512 without.
        top_n: proposals; None for 1000.

    Raises:
        UsageError: picture, weights, size or number of proposals cannot be taken.
    """
    default = SEEDED_SHORTER_SIDE if choice.file is None else c.SHORTER_SIDE
    shorter_side = default if size is None else size
    proposals = c.PROPOSALS if top_n is None else top_n
    _check(shorter_side, proposals)
    picture = read_picture(image)
    images = network_input(picture.rgb, shorter_side)
    network = FasterRCNN(ImageShape(1, images.shape[2], images.shape[3]), proposals).eval()
    notes: Tuple[str, ...] = ()
    if choice.file is None:
        seed_weights(network, choice.seed)
    else:
        notes = load_weights(network, choice.file, choice.key)
    network.requires_grad_(False)
    shape = images.shape[3], images.shape[2]
    return Model(
        name=NAME,
        kind=KIND.name,
        module=network,
        input_names=INPUT_NAMES,
        output_names=OUTPUT_NAMES,
        inputs=(images,),
        weights=choice.facts(network),
        picture=picture,
        scale=_scale(picture, images.shape[3], images.shape[2]),
        proposal_rows=network.rpn.top_n,
        notes=notes,
        prepare=lambda rgb: network_input(fitted(rgb, shape), min(shape)),
    )


def _check(shorter_side: int, proposals: int) -> None:
    require_side(NAME, shorter_side, MINIMUM_SHORTER_SIDE, c.LONGER_SIDE_LIMIT, SEEDED_SHORTER_SIDE)
    if not 1 <= proposals <= MAXIMUM_TOP_N:
        raise UsageError(
            f"--top-n {proposals}: {NAME} takes 1 to {MAXIMUM_TOP_N} proposals",
            f"--top-n {c.PROPOSALS}",
        )


def _scale(picture: Picture, width: int, height: int) -> Tuple[float, float]:
    rows, columns = picture.rgb.shape[:2]
    return width / columns, height / rows
