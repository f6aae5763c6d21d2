"""Text for drawings, from Pillow's own font: nothing is downloaded or looked for on the system."""

from PIL import Image, ImageDraw, ImageFont


def letters(text: str, size: int) -> Image.Image:
    """Return ``text`` as a mask ("L"). All texts of one size have the same height."""
    plain = text.encode("ascii", "replace").decode("ascii")  # all that the smallest font has
    try:
        font = ImageFont.load_default(size)
    except (TypeError, ImportError):  # before Pillow 10.1, or built without FreeType
        return _enlarged(plain, size)
    ascent, descent = font.getmetrics()
    width = max(1, int(font.getlength(plain) + 0.5))
    mask = Image.new("L", (width, ascent + descent))
    ImageDraw.Draw(mask).text((0, 0), plain, fill=255, font=font)
    return mask


def _enlarged(text: str, size: int) -> Image.Image:
    font = ImageFont.load_default()
    width, height = font.getmask(text or " ").size
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    times = max(1, round(size / height))
    return mask.resize((width * times, height * times), Image.NEAREST)
