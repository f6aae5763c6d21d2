"""The weights that torchvision publishes: their addresses, and how they are used.

A file is recognized by its sha256, whose first digits are in the name of every published file.
"""

import re
import sys
from typing import Any, List, NamedTuple, Optional, Tuple

import torchvision

from trtyard.core.published_weights import digits_in
from trtyard.pipeline.torch_support.versions import (
    classifier_names,
    detector_names,
    segmenter_names,
)

_SUFFIXES = ("", "google", "coco")  # of keys before torchvision 0.13


class Published(NamedTuple):
    """One published file."""

    address: str
    entry: Any = None  # of torchvision's weights API, from 0.13 on

    @property
    def digits(self) -> str:
        """The first digits of the sha256."""
        return digits_in(self.address)


class Look(NamedTuple):
    """How a picture is resized and normalized."""

    resized: int  # shorter side of the picture, in pixels
    cropped: int  # side of the square from its middle
    mean: Tuple[float, ...]
    deviation: Tuple[float, ...]
    resample: str = "bilinear"  # or "bicubic"
    as_torchvision: bool = False  # round the size and the place of the square as torchvision does


def published(name: str) -> List[Published]:
    """Return the published files of torchvision's model ``name``, the default first."""
    models = torchvision.models
    packages = (
        (models, classifier_names()),
        (models.segmentation, segmenter_names()),
        (models.detection, detector_names()),
    )
    package = next((one for one, names in packages if name in names), None)
    if package is None:
        return []
    if hasattr(models, "get_model_weights"):
        kind = models.get_model_weights(name)
        default = getattr(kind, "DEFAULT", None)
        ordered = sorted(kind, key=lambda entry: entry is not default)
        return [Published(entry.url, entry) for entry in ordered]
    module: Any = sys.modules[getattr(package, name).__module__]
    urls = getattr(module, "model_urls", None) or getattr(module, "_MODEL_URLS", {})
    wanted = [_plain(name) + suffix for suffix in _SUFFIXES]
    return [Published(url) for key, url in urls.items() if url and _plain(key) in wanted]


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


def published_as(name: str, sha256: str) -> Optional[Published]:
    """Return the published file of the model ``name`` with that sha256, or None."""
    return next(
        (one for one in published(name) if one.digits and sha256.startswith(one.digits)), None
    )


def look_of(found: Optional[Published]) -> Optional[Look]:
    """Return how torchvision prepares a picture for these weights, or None if it does not say."""
    if found is None or found.entry is None:
        return None
    transforms: Any = found.entry.transforms()
    if not hasattr(transforms, "resize_size"):  # a detector's own network resizes
        return None
    resized = transforms.resize_size[0]
    cropped = getattr(transforms, "crop_size", transforms.resize_size)[0]
    mean, deviation = tuple(transforms.mean), tuple(transforms.std)
    return Look(resized, cropped, mean, deviation, str(transforms.interpolation.value), True)
