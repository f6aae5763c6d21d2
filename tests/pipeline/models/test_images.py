"""Pictures of every kind, and files that are none."""

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.picture import MAXIMUM_PIXELS, MAXIMUM_SIDE, MINIMUM_SIDE, read_picture

ASTRONAUT = Path(skimage.__file__).parent / "data" / "astronaut.png"


def save(image, path, **options):
    image.save(path, **options)
    return str(path)


def noise(height=24, width=32, channels=3):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def png_header(width, height):
    """Return a PNG that claims a size and holds no pixels."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)


def test_default_picture_is_the_astronaut():
    picture = read_picture()
    assert picture.name == "astronaut"
    assert picture.sha256 == hashlib.sha256(ASTRONAUT.read_bytes()).hexdigest()
    np.testing.assert_array_equal(picture.rgb, np.asarray(Image.open(ASTRONAUT)))
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == (512, 512, 3)


def test_lossless_picture_round_trips(tmp_path):
    pixels = noise()
    path = save(Image.fromarray(pixels), tmp_path / "a picture.png")
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb, pixels)
    assert picture.name == path
    assert picture.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am no picture", "not a picture that Pillow can read"),
        (b"\x89PNG\r\n\x1a\n", "not a picture"),
        (b"\xff\xd8\xff\xe0", "not a picture"),
        (b"\0" * 5000, "not a picture"),
    ],
)
def test_non_picture_files_are_refused(tmp_path, content, words):
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_picture(str(path))
    assert str(path) in caught.value.message
    assert "--image" in caught.value.hint


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such picture"):
        read_picture(str(tmp_path / "none.png"))
    with pytest.raises(UsageError, match="is a folder"):
        read_picture(str(tmp_path))
    with pytest.raises(UsageError, match=r"cannot be read|no such picture"):
        read_picture("a\0b.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        read_picture(str(tmp_path / "pipe"))


def test_a_picture_of_one_pixel_is_refused_with_the_minimum(tmp_path):
    path = save(Image.fromarray(noise(1, 1)), tmp_path / "dot.png")
    with pytest.raises(UsageError, match=f"1x1 pixels; the minimum is {MINIMUM_SIDE}x"):
        read_picture(path)


def test_the_smallest_picture_is_taken(tmp_path):
    path = save(Image.fromarray(noise(MINIMUM_SIDE, MINIMUM_SIDE)), tmp_path / "small.png")
    assert read_picture(path).rgb.shape == (MINIMUM_SIDE, MINIMUM_SIDE, 3)


@pytest.mark.parametrize(
    ("width", "height"),
    [(20000, 16), (16, MAXIMUM_SIDE + 1), (MAXIMUM_SIDE, MAXIMUM_PIXELS // MAXIMUM_SIDE + 1)],
)
def test_huge_picture_is_refused_before_decoding(tmp_path, width, height):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(width, height))  # decoding it would say "broken" instead
    with pytest.raises(UsageError, match=f"{width}x{height} pixels; the maximum is {MAXIMUM_SIDE}"):
        read_picture(str(path))


def test_a_decompression_bomb_is_refused_without_a_warning(tmp_path):
    path = tmp_path / "bomb.png"
    for side in (10_000, 60_000):  # where Pillow warns, and where it raises
        path.write_bytes(png_header(side, side))
        with pytest.raises(UsageError, match=r"maximum|too large"):
            read_picture(str(path))


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.gif", "cut.bmp"])
def test_a_truncated_picture_is_refused(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(noise(200, 200)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"damaged or truncated|not a picture"):
        read_picture(str(path))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes_convert_like_pillow(tmp_path, mode):
    image = Image.fromarray(noise()).convert(mode)
    path = tmp_path / "picture.tif"
    if mode == "HSV":
        path = tmp_path / "picture.png"
        image = image.convert("RGB")
    image.save(path)
    picture = read_picture(str(path))
    np.testing.assert_array_equal(picture.rgb, np.asarray(Image.open(path).convert("RGB")))


def test_transparency_is_blended_onto_white(tmp_path):
    pixels = noise(channels=4)
    pixels[..., 3] = np.array([0, 128, 255, 64])[np.arange(32) % 4]
    picture = read_picture(save(Image.fromarray(pixels), tmp_path / "alpha.png"))
    alpha = pixels[..., 3:].astype(np.float64) / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(picture.rgb, expected, atol=1)
    assert (picture.rgb[:, 0] == 255).all()


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.paste(0, (0, 0, 20, 10))
    picture = read_picture(save(image, tmp_path / "palette.png", transparency=0))
    assert (picture.rgb[:10] == 255).all()
    assert (picture.rgb[10:] == [200, 10, 10]).all()


def test_grey_of_16_bits_keeps_its_range(tmp_path):
    deep = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    picture = read_picture(save(Image.fromarray(deep), tmp_path / "deep.png"))
    np.testing.assert_allclose(picture.rgb[..., 0], deep / 257, atol=1)
    np.testing.assert_array_equal(picture.rgb[..., 0], picture.rgb[..., 2])


def test_floating_point_pixels_are_refused(tmp_path):
    path = save(Image.fromarray(np.ones((20, 20), np.float32)), tmp_path / "float.tif")
    with pytest.raises(UsageError, match="floating-point"):
        read_picture(path)


def test_the_exif_orientation_is_applied(tmp_path):
    pixels = noise(24, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    picture = read_picture(save(Image.fromarray(pixels), tmp_path / "turned.png", exif=exif))
    np.testing.assert_array_equal(picture.rgb, np.rot90(pixels, k=-1))


def test_animation_uses_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    path = save(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (read_picture(path).rgb == [255, 0, 0]).all()
