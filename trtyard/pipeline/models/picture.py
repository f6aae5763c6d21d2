"""Read any picture file as RGB of a supported size."""

import hashlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image, ImageOps

from trtyard.core.errors import EnvironmentLacksError, UsageError

# A smaller picture has no content left after a network's total stride of 32.
MINIMUM_SIDE = 16
# A larger picture costs hundreds of megabytes and is scaled down anyway. The number of pixels is
# below the limit at which Pillow warns (89 million).
MAXIMUM_SIDE = 16384
MAXIMUM_PIXELS = 1 << 26
MAXIMUM_BYTES = 256 << 20

DEFAULT_NAME = "astronaut"
_TRY_ANOTHER = "give another picture with --image FILE, or leave --image out"
_WHITE = (255, 255, 255, 255)


class Picture(NamedTuple):
    """A picture that is upright, opaque and has 8 bits per channel."""

    name: str  # the path as the user typed it, or the default's name
    rgb: Any  # numpy uint8 [H, W, 3]
    sha256: str  # of the file


def read_picture(path: Optional[str] = None) -> Picture:
    """Read the picture at ``path``, or the default one: scikit-image's astronaut (public domain).

    An animation gives its first frame. Transparency is blended onto white, grey and CMYK become
    RGB, 16-bit grey becomes 8-bit, and the EXIF orientation is applied.

    Raises:
        UsageError: the file is missing, is not a picture, is broken, too small or too large.
        EnvironmentLacksError: no path was given and scikit-image is not installed.
    """
    if path is None:
        return _decode(_default_path(), DEFAULT_NAME)
    return _decode(Path(path), path)


def fitted(rgb: Any, size: Tuple[int, int]) -> Any:
    """Return the middle of a picture, resized to ``size``: for a network of one fixed size.

    Args:
        rgb: numpy uint8 [H, W, 3].
        size: (width, height) in pixels.
    """
    rows, columns = rgb.shape[:2]
    factor = min(columns / size[0], rows / size[1])
    width, height = size[0] * factor, size[1] * factor
    left, top = (columns - width) / 2, (rows - height) / 2
    box = (left, top, min(left + width, columns), min(top + height, rows))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.BILINEAR, box=box))


def _default_path() -> Path:
    # Only located: importing scikit-image takes longer than reading the picture.
    spec = importlib.util.find_spec("skimage")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        path = Path(folder) / "data" / "astronaut.png"
        if path.is_file():
            return path
    raise EnvironmentLacksError(
        "the default picture comes with scikit-image, which is not installed here",
        "install scikit-image, or give a picture of your own with --image FILE",
    )


def _decode(path: Path, name: str) -> Picture:
    data = _read(path, name)
    with warnings.catch_warnings():
        # The limits above are checked here, and a picture with odd metadata is still a picture.
        warnings.simplefilter("ignore")
        image = _open(data, name)
        _check_size(image.size, name)
        try:
            upright = ImageOps.exif_transpose(image) or image
            rgb = np.asarray(_to_rgb(upright, name))
        except UsageError:
            raise
        except Exception as error:  # Pillow's decoders raise many types of errors
            reason = str(error) or type(error).__name__
            raise UsageError(
                f"{name}: the picture is damaged or truncated ({reason})", _TRY_ANOTHER
            ) from error
    return Picture(name, rgb, hashlib.sha256(data).hexdigest())


def _read(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise UsageError(f"{name} is a folder, not a picture", _TRY_ANOTHER)
        if not path.exists():
            raise UsageError(f"{name}: no such picture", _TRY_ANOTHER)
        if not path.is_file():
            raise UsageError(f"{name} is not a regular file", _TRY_ANOTHER)
        if path.stat().st_size > MAXIMUM_BYTES:
            raise UsageError(
                f"{name} has {path.stat().st_size} bytes; "
                f"pictures of up to {MAXIMUM_BYTES} are read",
                _TRY_ANOTHER,
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise UsageError(f"{name} cannot be read: {error}", _TRY_ANOTHER) from error
    if not data:
        raise UsageError(f"{name} is empty", _TRY_ANOTHER)
    return data


def _open(data: bytes, name: str) -> Any:
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{name} is too large: at most {MAXIMUM_SIDE} pixels a side and "
            f"{MAXIMUM_PIXELS} in all",
            "scale it down first",
        ) from error
    except Exception as error:  # as above
        raise UsageError(
            f"{name} is not a picture that Pillow can read (PNG, JPEG, WebP, ...)", _TRY_ANOTHER
        ) from error


def _check_size(size: Any, name: str) -> None:
    width, height = size
    if min(width, height) < MINIMUM_SIDE:
        raise UsageError(
            f"{name} is {width}x{height} pixels; the minimum is {MINIMUM_SIDE}x{MINIMUM_SIDE}",
            _TRY_ANOTHER,
        )
    if max(width, height) > MAXIMUM_SIDE or width * height > MAXIMUM_PIXELS:
        raise UsageError(
            f"{name} is {width}x{height} pixels; the maximum is {MAXIMUM_SIDE} a side and "
            f"{MAXIMUM_PIXELS} in all",
            "scale it down first",
        )


def _to_rgb(image: Any, name: str) -> Any:
    if image.mode == "F":
        raise UsageError(
            f"{name} holds floating-point pixels of unknown range",
            "save it with 8 bits a channel first",
        )
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip every value above 255.
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, _WHITE), opaque).convert("RGB")
    return image.convert("RGB")
