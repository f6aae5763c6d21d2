"""The static form of each of torchvision's detector classes, by release."""

from typing import Any, Mapping, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.static_detectors.box_detections import BOX_DETECTIONS
from trtyard.pipeline.models.static_detectors.fcos import FCOS
from trtyard.pipeline.models.static_detectors.keypoints import HEATMAPS
from trtyard.pipeline.models.static_detectors.masks import MASKS
from trtyard.pipeline.models.static_detectors.pooling import POOL, POOL_0_5
from trtyard.pipeline.models.static_detectors.proposals import PROPOSALS
from trtyard.pipeline.models.static_detectors.retinanet import RETINANET
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite, torchvision_release
from trtyard.pipeline.models.static_detectors.shared import (
    ANCHOR_GENERATOR,
    ANCHOR_GENERATOR_0_5,
    DEFAULT_BOXES,
    RESIZE_BOXES,
    TRANSFORM,
)
from trtyard.pipeline.models.static_detectors.ssd import SSD
from trtyard.pipeline.models.static_detectors.two_stage import FINISH

Form = Tuple[Rewrite, ...]

_DETECTION = "torchvision.models.detection."
_NEWER = ("0.17", "0.27", "0.28")
_TWO_STAGE = (TRANSFORM, PROPOSALS, BOX_DETECTIONS, MASKS, HEATMAPS, FINISH)
_TWO_STAGES: Mapping[str, Form] = {
    "0.5": (ANCHOR_GENERATOR_0_5, POOL_0_5, *_TWO_STAGE),
    **dict.fromkeys(_NEWER, (ANCHOR_GENERATOR, POOL, *_TWO_STAGE)),
}


def _of_newer(*rewrites: Rewrite) -> Mapping[str, Form]:
    return dict.fromkeys(_NEWER, (TRANSFORM, RESIZE_BOXES, *rewrites))


# By the class's qualified name, then by torchvision's release.
FORMS: Mapping[str, Mapping[str, Form]] = {
    _DETECTION + "retinanet.RetinaNet": _of_newer(ANCHOR_GENERATOR, RETINANET),
    _DETECTION + "fcos.FCOS": _of_newer(ANCHOR_GENERATOR, FCOS),
    _DETECTION + "ssd.SSD": _of_newer(DEFAULT_BOXES, SSD),
    _DETECTION + "faster_rcnn.FasterRCNN": _TWO_STAGES,
    _DETECTION + "mask_rcnn.MaskRCNN": _TWO_STAGES,
    _DETECTION + "keypoint_rcnn.KeypointRCNN": _TWO_STAGES,
}


def has_form(detector: Any) -> bool:
    """Return whether a release has replacements for the detector's class, not a derived one."""
    return _name_of(detector) in FORMS


def form_of(detector: Any) -> Optional[Sequence[Rewrite]]:
    """Return the replacements that make a detector's shapes static; None if it has none.

    Raises:
        UsageError: there are none for the installed release of torchvision.
    """
    releases = FORMS.get(_name_of(detector))
    if releases is None:
        return None
    release = torchvision_release()
    if release not in releases:
        raise UsageError(
            f"padded detections of {type(detector).__name__} are for torchvision "
            f"{', '.join(releases)}, not {release}",
            "--detections dynamic exports torchvision's own functions",
        )
    return releases[release]


def _name_of(detector: Any) -> str:
    cls = type(detector)
    return f"{cls.__module__}.{cls.__qualname__}"
