"""Load the detector for a conversion: network, weights and a picture's input."""

from typing import Optional, Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.core.report import STRETCH, Preprocess
from trtyard.pipeline.models.families.faster_rcnn import KIND
from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.network import INPUT_NAMES, OUTPUT_NAMES, FasterRCNN
from trtyard.pipeline.models.faster_rcnn.preprocess import resized_input, resized_size
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.seeded import seed_weights
from trtyard.pipeline.models.faster_rcnn.weights import load_weights
from trtyard.pipeline.models.image_inputs import ImageInputs, read_images
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.picture import Picture, fitted, read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.weights import Choice

NAME = "faster_rcnn"

# Random weights detect no more in a larger picture or with more proposals, and the comparison takes
# longer.
SEEDED_SHORTER_SIDE = 512
SEEDED_PROPOSALS = 300
# Below this the feature map has fewer than four cells a side.
MINIMUM_SHORTER_SIDE = 64
MAXIMUM_TOP_N = c.CANDIDATES


def load_faster_rcnn(
    choice: Choice,
    image: Optional[str],
    size: Optional[int],
    top_n: Optional[int],
    input_shape: Optional[str] = None,
) -> Model:
    """Return Faster R-CNN for one picture, or for a batch of its variations.

    Args:
        choice: seeded weights or a checkpoint.
        image: path of a picture; None for the default one.
        size: shorter side of the network's input; None for 800 with a checkpoint, 512 without.
        top_n: proposals; None for 1000 with a checkpoint, 300 without.
        input_shape: such as "1..8x3x512x512", in place of ``size``. The picture is resized to it.

    Raises:
        UsageError: picture, weights, size or number of proposals are not supported.
    """
    default_side, default_proposals = (
        (SEEDED_SHORTER_SIDE, SEEDED_PROPOSALS)
        if choice.file is None
        else (c.SHORTER_SIDE, c.PROPOSALS)
    )
    proposals = default_proposals if top_n is None else top_n
    if input_shape is not None:
        asked = read_images(input_shape, NAME, size, sides_vary=False)
        for side in (asked.height, asked.width):
            _check(side, proposals, input_shape)
        picture = read_picture(image)
    else:
        shorter_side = default_side if size is None else size
        _check(shorter_side, proposals)
        picture = read_picture(image)
        rows, columns = picture.rgb.shape[:2]
        width, height = resized_size(columns, rows, shorter_side)
        asked = ImageInputs(1, height, width)

    def picture_at(height: int, width: int) -> torch.Tensor:
        return resized_input(picture.rgb, width, height)

    images = asked.draw(picture_at)
    batch = None if asked.has_open_batch else asked.batch
    network = FasterRCNN(ImageShape(batch, asked.height, asked.width), proposals).eval()
    notes: Tuple[str, ...] = ()
    if choice.file is None:
        seed_weights(network, choice.seed)
    else:
        notes = load_weights(network, choice.file, choice.key)
    network.requires_grad_(False)
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
        dynamic=asked.dynamic(picture_at),
        prepare=lambda rgb: asked.repeated(
            resized_input(fitted(rgb, (asked.width, asked.height)), asked.width, asked.height)
        ),
        preprocess=Preprocess(STRETCH, "BGR", 1.0, c.PIXEL_MEANS_BGR, (1.0, 1.0, 1.0)),
    )


def _check(side: int, proposals: int, asked: Optional[str] = None) -> None:
    smallest, largest = MINIMUM_SHORTER_SIDE, c.LONGER_SIDE_LIMIT
    require_side(NAME, side, smallest, largest, SEEDED_SHORTER_SIDE, asked)
    if not 1 <= proposals <= MAXIMUM_TOP_N:
        raise UsageError(
            f"--top-n {proposals}: {NAME} takes 1 to {MAXIMUM_TOP_N} proposals",
            f"--top-n {c.PROPOSALS}",
        )


def _scale(picture: Picture, width: int, height: int) -> Tuple[float, float]:
    rows, columns = picture.rgb.shape[:2]
    return width / columns, height / rows
