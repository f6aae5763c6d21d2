"""Which driver fits the TensorRT of this process."""

from typing import Tuple

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.toolchains import release
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver import Driver

# From here on up to, but not including: what a driver was checked against, and no more.
_SEVEN = ((7, 0), (7, 1))
_EIGHT = ((8, 5), (9, 0))
_TEN = ((10, 13), (12, 0))
_RANGES = (_SEVEN, _EIGHT, _TEN)
_PLUGIN_OVERRIDE = (10, 15)  # the first release with a parser flag to prefer plugins


def this_driver() -> Driver:
    """Return what drives the TensorRT that ``trt`` is; see ``driver_of``."""
    return driver_of(trt.__version__, is_rtx=trt.__name__.startswith("tensorrt_rtx"))


def driver_of(version: str, is_rtx: bool) -> Driver:
    """Return what drives a release of TensorRT, or of TensorRT for RTX.

    Raises:
        EnvironmentLacksError: no driver was checked against that release.
    """
    found = release(version)
    # Imported here, as each names classes that the other releases do not have.
    if is_rtx:
        from trtyard.pipeline.tensorrt.driver_rtx import DriverRtx

        return DriverRtx()
    if _PLUGIN_OVERRIDE <= found < _TEN[1]:
        from trtyard.pipeline.tensorrt.driver_10 import Driver10

        return Driver10()
    if _TEN[0] <= found < _PLUGIN_OVERRIDE:
        from trtyard.pipeline.tensorrt.driver_10_13 import Driver1013

        return Driver1013()
    if _EIGHT[0] <= found < _EIGHT[1]:
        from trtyard.pipeline.tensorrt.driver_8 import Driver8

        return Driver8()
    if _SEVEN[0] <= found < _SEVEN[1]:
        from trtyard.pipeline.tensorrt.driver_7 import Driver7

        return Driver7()
    driven = ", ".join(f"{_dotted(low)} to below {_dotted(high)}" for low, high in _RANGES)
    raise EnvironmentLacksError(
        f"trtyard does not drive TensorRT {version}", f"take a row with TensorRT {driven}"
    )


def _dotted(numbers: Tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
