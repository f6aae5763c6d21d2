"""The static form of each of torchvision's detector classes, by release."""

from typing import Any, Dict, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.static_detectors.fcos import FCOS
from trtyard.pipeline.models.static_detectors.retinanet import RETINANET
from trtyard.pipeline.models.static_detectors.rewriting import Rewrite, torchvision_release
from trtyard.pipeline.models.static_detectors.shared import (
    ANCHOR_GENERATOR,
    DEFAULT_BOXES,
    RESIZE_BOXES,
    TRANSFORM,
)
from trtyard.pipeline.models.static_detectors.ssd import SSD

Form = Tuple[Rewrite, ...]

_DETECTION = "torchvision.models.detection."
_NEWER = ("0.17", "0.27", "0.28")


def _of_newer(*rewrites: Rewrite) -> Dict[str, Form]:
    return dict.fromkeys(_NEWER, (TRANSFORM, RESIZE_BOXES, *rewrites))


# By the class's qualified name, then by torchvision's release.
FORMS: Dict[str, Dict[str, Form]] = {
    _DETECTION + "retinanet.RetinaNet": _of_newer(ANCHOR_GENERATOR, RETINANET),
    _DETECTION + "fcos.FCOS": _of_newer(ANCHOR_GENERATOR, FCOS),
    _DETECTION + "ssd.SSD": _of_newer(DEFAULT_BOXES, SSD),
}


def form_of(detector: Any) -> Optional[Sequence[Rewrite]]:
    """Return the replacements that make a detector's shapes static; None for an unknown class.

    Raises:
        UsageError: there are none for the installed release of torchvision.
    """
    cls = type(detector)
    releases = FORMS.get(f"{cls.__module__}.{cls.__qualname__}")
    if releases is None:
        return None
    release = torchvision_release()
    if release not in releases:
        raise UsageError(
            f"padded detections of {cls.__name__} are for torchvision {', '.join(releases)}, "
            f"not {release}",
            "--detections dynamic exports torchvision's own functions",
        )
    return releases[release]
