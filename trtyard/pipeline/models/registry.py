"""From what the user typed after ``--model`` to a model ready to run."""

from typing import Any, List, Optional

from trtyard.core.errors import UsageError
from trtyard.core.known_models import FASTER_RCNN, unknown
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
) -> Model:
    """Return the model ``spec``, with its weights and this run's inputs.

    Args:
        spec: ``faster_rcnn``, the name of a classifier, segmenter or detector of torchvision such
            as ``alexnet``, or a user's own as ``package.module:callable`` or ``file.py:callable``.
        weights: ``seeded``, ``seeded:N``, or the path of a checkpoint, with ``#KEY`` behind it
            where it holds several sets of weights.
        image: path of a picture; the default one if None. Not for own models.
        size: of the network's input in pixels: the shorter side for detectors, the square's side
            for classifiers and segmenters. Not for own models.
        input_shape: of an own model's inputs, such as "1x3x224x224,1x16:int64:100".
        top_n: proposals of ``faster_rcnn``.
        norm_epsilon: of the norms of a checkpoint for one of torchvision's detectors.

    Raises:
        UsageError: something of it cannot be taken; the message says what can.
        EnvironmentLacksError: pretrained weights, or the default picture, are not here.
    """
    given = {"--image": image, "--size": size, "--input": input_shape, "--top-n": top_n}
    given["--norm-eps"] = norm_epsilon
    choice = choose(str(weights))
    path = None if image is None else str(image)
    if ":" in spec:
        unfit = ["--image", "--size", "--top-n", "--norm-eps"]
        _refuse(given, unfit, spec, "a model of your own takes --input")
        from trtyard.pipeline.models.own import load_own

        return load_own(spec, choice, input_shape)
    if spec == FASTER_RCNN:
        _refuse(given, ["--input", "--norm-eps"], spec, "it takes --image, --size and --top-n")
        from trtyard.pipeline.models.faster_rcnn.load import load_faster_rcnn

        return load_faster_rcnn(choice, path, size, top_n)
    from trtyard.pipeline.models.classifier import classifier_names, load_classifier

    if spec in classifier_names():
        _refuse(given, ["--input", "--top-n", "--norm-eps"], spec, "it takes --image and --size")
        return load_classifier(spec, choice, path, size)
    from trtyard.pipeline.models.segmenter import load_segmenter, segmenter_names
    from trtyard.pipeline.models.torchvision_detector import detector_names, load_detector

    if spec in segmenter_names():
        _refuse(given, ["--input", "--top-n", "--norm-eps"], spec, "it takes --image and --size")
        return load_segmenter(spec, choice, path, size)
    if spec in detector_names():
        _refuse(given, ["--input", "--top-n"], spec, "it takes --image and --size")
        if choice.file is None:
            _refuse(given, ["--norm-eps"], "seeded weights", "give a checkpoint: --weights FILE")
        return load_detector(spec, choice, path, size, norm_epsilon)
    raise unknown(spec, [FASTER_RCNN, *classifier_names(), *segmenter_names(), *detector_names()])


def _refuse(given: Any, options: List[str], spec: str, instead: str) -> None:
    for option in options:
        if given[option] is not None:
            raise UsageError(f"{option} is not for {spec}", instead)
