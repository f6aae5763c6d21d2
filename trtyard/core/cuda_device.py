"""Find the first CUDA device through the driver library; needs no package."""

import ctypes
from typing import NamedTuple, Optional, Sequence, Tuple

# CUdevice_attribute, from cuda.h; both numbers are part of the driver's stable interface.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


class Device(NamedTuple):
    """The first CUDA device."""

    name: str
    compute_capability: str  # such as "8.9"


def first_device() -> Optional[Device]:
    """Return the first CUDA device, or None without a driver or a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    if driver.cuInit(0) != 0:
        return None
    handle = ctypes.c_int()
    if driver.cuDeviceGet(ctypes.byref(handle), 0) != 0:
        return None
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), handle)
    capability = [
        _attribute(driver, handle, attribute)
        for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR)
    ]
    return Device(name.value.decode(), "{}.{}".format(*capability))


def usable_device(supported: Sequence[str]) -> Tuple[Optional[Device], str]:
    """Return the first device if engines can run on it, else None; and the reason, else "".

    Args:
        supported: compute capabilities that this TensorRT runs on, such as "8.9".
    """
    device = first_device()
    if device is None:
        return None, "no CUDA device on this machine"
    if device.compute_capability not in supported:
        return None, (
            f"{device.name} has compute capability {device.compute_capability}; "
            f"this TensorRT runs on {', '.join(supported)}"
        )
    return device, ""


def _attribute(driver: ctypes.CDLL, handle: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
    return value.value
