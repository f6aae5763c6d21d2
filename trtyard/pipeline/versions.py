"""Which releases a conversion ran with, as the environment itself says."""

import platform
import sys
from typing import Dict, Optional

import trtyard

# Distribution name to what the report calls it, in the report's order.
_PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime",
    "tensorrt-rtx-cu13-bindings": "tensorrt",
    "tensorrt-cu13-bindings": "tensorrt",
    "tensorrt-bindings": "tensorrt",
    "tensorrt": "tensorrt",
    "numpy": "numpy",
    "pillow": "pillow",
    "pycuda": "pycuda",
}


def versions() -> Dict[str, str]:
    """Return the versions of trtyard, Python and the row's packages by name, and the platform.

    A package that is not installed is left out.
    """
    found = {
        "trtyard": trtyard.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    for distribution, name in _PACKAGES.items():
        version = _version_of(distribution)
        if version is not None:
            found[name] = version
    return found


if sys.version_info >= (3, 8):
    from importlib import metadata

    def _version_of(distribution: str) -> Optional[str]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None

else:
    import pkg_resources

    def _version_of(distribution: str) -> Optional[str]:
        try:
            return pkg_resources.get_distribution(distribution).version
        except pkg_resources.DistributionNotFound:
            return None
