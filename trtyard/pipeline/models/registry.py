"""Load the model that ``--model`` names."""

from typing import Any, Optional

import torchvision

from trtyard.core.errors import UsageError
from trtyard.core.known_models import KINDS, unknown
from trtyard.pipeline.models.families import FAMILIES
from trtyard.pipeline.models.family import Options
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.weights import choose


def load_model(
    spec: str,
    weights: str = "seeded",
    image: Optional[Any] = None,
    size: Optional[int] = None,
    input_shape: Optional[str] = None,
    top_n: Optional[int] = None,
    norm_epsilon: Optional[float] = None,
    detections: Optional[str] = None,
) -> Model:
    """Return the model ``spec``, with its weights and this run's inputs.

    Args:
        spec: ``faster_rcnn``, the name of a classifier, segmenter or detector of torchvision such
            as ``alexnet``, a user's own as ``package.module:callable`` or ``file.py:callable``, or
            the path of an ONNX file.
        weights: ``seeded``, ``seeded:N``, or the path of a checkpoint, followed by ``#KEY`` if it
            has several sets of weights.
        image: path of a picture; the default one if None. Of own models in PyTorch only for
            detectors of torchvision.
        size: of the network's input in pixels: the shorter side for detectors, the square's side
            for classifiers and segmenters. Not for own models.
        input_shape: of an own model's inputs, such as "1x3x224x224,1x16:int64:100"; for an ONNX
            file also with names, or a file of values.
        top_n: proposals of ``faster_rcnn``.
        norm_epsilon: of the norms of a checkpoint for one of torchvision's detectors.
        detections: "padded" or "dynamic"; None for padded, where torchvision's detector has it.

    Raises:
        UsageError: an argument is not supported; the message lists the supported values.
        EnvironmentLacksError: pretrained weights or the default picture are missing.
    """
    path = None if image is None else str(image)
    options = Options(
        choose(str(weights)), path, size, input_shape, top_n, norm_epsilon, detections
    )
    for family in FAMILIES:
        if family.has(spec):
            family.refuse_unfit(spec, options)
            return family.load(spec, options)
    here = [name for family in FAMILIES for name in family.names()]
    kind = next((one for one in KINDS.values() if spec in one.names), None)
    if kind is None:
        raise unknown(spec, here)
    raise UsageError(
        f"torchvision {torchvision.__version__} of this row has no {spec}; of its kind it has: "
        + ", ".join(name for name in kind.names if name in here),
        "choose a row with a newer torchvision: ./run matrix",
    )
