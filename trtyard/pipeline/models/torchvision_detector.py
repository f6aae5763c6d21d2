"""torchvision's own detectors, by name.

Unchanged, they return a row for each detection, and the output shapes of the ONNX file depend on
the picture. ONNX Runtime and full TensorRT from 8.5 on support that. TensorRT for RTX has neither
NonZero nor NonMaxSuppression, so by default the static form is exported (``static_detectors``).
"""

import warnings
from collections import OrderedDict
from typing import Any, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.core.report import STRETCH, Preprocess
from trtyard.core.request import DYNAMIC, PADDED
from trtyard.pipeline.models.checkpoint import refuse_bad_variances
from trtyard.pipeline.models.checkpoint_keys import hint_for_prefix
from trtyard.pipeline.models.detector_seeding import seed_detector
from trtyard.pipeline.models.families.torchvision_detector import KIND
from trtyard.pipeline.models.flat_outputs import with_named_outputs
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.models.norm_epsilon import epsilon_for, set_epsilon
from trtyard.pipeline.models.picture import Picture, fitted, read_picture
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.static_detectors.forms import form_of
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite
from trtyard.pipeline.models.static_detectors.shared import anchors_kept
from trtyard.pipeline.models.static_detectors.static_detector import (
    OneImage,
    PaddedReference,
    StaticDetector,
)
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.versions import detector_names, untrained_detector

__all__ = ["detector_names", "load_detector"]

# Random weights detect no more in a larger picture.
SEEDED_SIZE = 320
DEFAULT_SIZE = 800  # torchvision's for most of its detectors
_PUBLISHED_SIZES = {"fasterrcnn_mobilenet_v3_large_320_fpn": 320}  # of other published weights
MINIMUM_SIZE, MAXIMUM_SIZE = 64, 1333


def load_detector(
    name: str,
    choice: Choice,
    image: Optional[str],
    size: Optional[int],
    norm_epsilon: Optional[float] = None,
    detections: Optional[str] = None,
) -> Model:
    """Return the detector ``name`` for one picture, with torchvision's output names.

    These are ``boxes`` float32 [n, 4] (x1, y1, x2, y2 in pixels of the input), ``labels`` int64
    [n], ``scores`` float32 [n], best first; ``masks`` float32 [n, 1, H, W]; ``keypoints`` float32
    [n, 17, 3] and ``keypoints_scores`` float32 [n, 17]. Padded, n is the most detections that the
    detector returns, and ``count`` int32 [1] is the number of rows that are not padding.

    The picture is resized here, and the detector does not resize again. An SSD still resizes to
    its own size if ``size`` is another one.

    Args:
        name: one of ``detector_names``.
        choice: seeded weights or a state dict of torchvision's.
        image: path of a picture; None for the default one.
        size: shorter side of the input; None for an SSD's own size, and for other detectors 800
            with a checkpoint and 320 without.
        norm_epsilon: of a checkpoint's norms; None for the result of ``epsilon_for``.
        detections: PADDED, DYNAMIC, or None for padded if the detector has a static form.

    Raises:
        UsageError: picture, weights or size are not supported, or the detector has no static form
            for the installed torchvision.
    """
    side = _default_size(name, choice) if size is None else size
    require_side(name, side, MINIMUM_SIZE, MAXIMUM_SIZE, SEEDED_SIZE)
    picture = read_picture(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about its own constructors
        detector = untrained_detector(name).eval()
    fixed = getattr(detector.transform, "fixed_size", None)  # an SSD's own, (width, height)
    own_size = fixed is None or size in (None, *fixed)
    wanted = fixed if fixed is not None and own_size else side
    if own_size:
        detector.transform.resize = as_it_is
    images = network_input(picture.rgb, wanted)
    module = OneImage(detector).eval()
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        notes = _load_weights(detector, name, choice, norm_epsilon)
    else:
        # With the default picture, so that the weights do not depend on this run's picture.
        seed_detector(module, choice.seed, network_input(read_picture().rgb, wanted))
    module.requires_grad_(False)
    form = padded_form(name, detector, detections)
    return detector_model(
        name, KIND.name, detector, form, images, picture, choice.facts(detector), notes
    )


def detector_model(
    name: str,
    kind: str,
    detector: nn.Module,
    form: Optional[Sequence[Rewrite]],
    images: torch.Tensor,
    picture: Picture,
    weights: Weights,
    notes: Tuple[str, ...],
) -> Model:
    """Return the model of a detector that takes a list of pictures, in eval mode.

    Args:
        name: as the user typed it.
        kind: the name of the model's ``Kind``.
        detector: of torchvision, with its weights.
        form: see ``padded_form``.
        images: float32 [1, 3, H, W], RGB in 0..1.
        picture: that of ``images``.
        weights: where they come from.
        notes: about the weights.
    """
    module = (OneImage if form is None else PaddedReference)(detector).eval()
    with torch.no_grad(), anchors_kept(detector):
        output_names, module = with_named_outputs(module, module(images), name)
    static_form: Optional[StaticDetector] = None
    if form is not None:
        static_form = StaticDetector(detector, form, output_names).eval()
    rows, columns = picture.rgb.shape[:2]
    shape = images.shape[3], images.shape[2]
    return Model(
        name=name,
        kind=kind,
        module=module,
        input_names=("images",),
        output_names=output_names,
        inputs=(images,),
        weights=weights,
        picture=picture,
        scale=(images.shape[3] / columns, images.shape[2] / rows),
        # torch.export stops at the first size that depends on values, and takes two to three times
        # as long for the static form.
        exporter="torchscript",
        notes=notes,
        prepare=lambda rgb: network_input(fitted(rgb, shape), shape),
        preprocess=Preprocess(STRETCH, "RGB", 255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        static_form=static_form,
    )


def padded_form(
    name: str, detector: nn.Module, detections: Optional[str]
) -> Optional[Sequence[Rewrite]]:
    """Return the replacements for a static form; None to export the detector unchanged."""
    if detections == DYNAMIC:
        return None
    form = form_of(detector)
    if form is None and detections == PADDED:
        raise UsageError(
            f"{name} has no padded form yet", "--detections dynamic, or leave the option out"
        )
    return form


def _default_size(name: str, choice: Choice) -> int:
    if choice.file is None:
        return SEEDED_SIZE
    if name in _PUBLISHED_SIZES and choice.published(name) is not None:
        return _PUBLISHED_SIZES[name]
    return DEFAULT_SIZE


def _load_weights(
    detector: nn.Module, name: str, choice: Choice, norm_epsilon: Optional[float]
) -> Tuple[str, ...]:
    """Load a state dict into ``detector`` by torchvision's own rules, and return notes about it.

    torchvision's published weights mostly have frozen norms, which have no count of batches. Some
    are from older releases, whose keys torchvision renames.

    Raises:
        UsageError: the file is not supported, or does not fit.
    """
    file = str(choice.file)
    state, notes = choice.read()
    epsilon = epsilon_for(name, detector, state, file, norm_epsilon)
    set_epsilon(detector, epsilon)
    try:
        detector.load_state_dict(OrderedDict(state))
    except RuntimeError as error:
        raise UsageError(
            f"{file} does not fit this model:\n{error}",
            hint_for_prefix(list(detector.state_dict()), list(state), file)
            or "give the checkpoint of this very model with --weights FILE, or --weights seeded",
        ) from error
    refuse_bad_variances(detector, file)
    return notes if epsilon.note is None else (*notes, epsilon.note)


def network_input(rgb: np.ndarray, size: Union[int, Tuple[int, int]]) -> torch.Tensor:
    """Return float32 [1, 3, H, W], RGB in 0..1.

    Args:
        rgb: uint8 [H, W, 3].
        size: the shorter side's length, or (width, height); in pixels.
    """
    if isinstance(size, int):
        height, width = rgb.shape[:2]
        factor = size / min(height, width)
        size = _within(width * factor), _within(height * factor)
    resized = np.array(Image.fromarray(rgb).resize(size, Image.BILINEAR))
    return (torch.from_numpy(resized).float() / 255).permute(2, 0, 1)[None].contiguous()


def _within(side: float) -> int:
    return min(max(1, round(side)), 2 * MAXIMUM_SIZE)


def as_it_is(image: torch.Tensor, target: Any = None) -> Any:
    """Replace a torchvision transform's ``resize`` if the picture already has its size.

    When traced, torchvision's ``resize`` computes the new size in float32: (1 / 427) * 427 is below
    1, and 427 pixels become 426.
    """
    return image, target
