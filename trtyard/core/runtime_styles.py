"""The line style of each runtime, in the picture and on the page."""

from typing import NamedTuple, Tuple


class RuntimeStyle(NamedTuple):
    """A line style; dashes also distinguish runtimes for readers who cannot see colours."""

    colour: Tuple[int, int, int]
    width: float  # in units of the drawing's line width
    dash: Tuple[int, int]  # on, off in line widths; (1, 0) is solid
    edge: float  # how much wider the dark line below is, in the same units
    word: str


# Okabe and Ito's palette for all kinds of colour vision. The reference is a wide solid line below;
# the others are dashes on it, so that both show where they agree.
_STYLES = {
    "torch": RuntimeStyle((86, 180, 233), 3.4, (1, 0), 1.2, "solid"),
    "onnxruntime": RuntimeStyle((240, 228, 66), 1.4, (6, 8), 0.6, "dashed"),
    "tensorrt": RuntimeStyle((213, 94, 0), 1.4, (2, 5), 0.6, "dotted"),
}
_OTHER = RuntimeStyle((204, 121, 167), 1.4, (11, 4), 0.6, "long dashes")


def style_of(runtime: str) -> RuntimeStyle:
    """Return a runtime's line style."""
    return _STYLES.get(runtime, _OTHER)
