import numpy as np
import pytest
from PIL import Image

from trtyard.core.coco import COCO_NAMES, class_name
from trtyard.core.runtime_styles import style_of
from trtyard.pipeline.lettering import letters
from trtyard.pipeline.overlay import (
    LARGEST_SIDE,
    MOST_BOXES,
    MOST_LABELS,
    SMALLEST_SIDE,
    draw_overlay,
)
from trtyard.pipeline.parity.padded import Detections

GREY = (128, 128, 128)
BLUE = style_of("torch").colour
YELLOW = style_of("onnxruntime").colour


def picture(height=512, width=512):
    return np.full((height, width, 3), 128, np.uint8)


def found(*boxes, score=0.9, label=1):
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.full(count, score, np.float32),
        np.full(count, label, np.int32),
        100,
    )


def drawn(tmp_path, rgb, scale, detections):
    file = tmp_path / "overlay.png"
    draw_overlay(rgb, scale, detections, file)
    with Image.open(str(file)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def is_colour(pixels, colour):
    return (np.abs(pixels - np.array(colour)) <= 2).all(axis=-1)


def test_box_is_drawn_at_the_detection(tmp_path):
    # 512 px enlarged to 1024; the network saw 256 px: a network pixel is 4 canvas pixels.
    pixels = drawn(tmp_path, picture(), (0.5, 0.5), {"torch": found([50, 60, 200, 180])})
    blue = is_colour(pixels[:1024], BLUE)
    assert blue[400:500, 198:203].all(axis=1).any()  # left edge at x = 200
    assert blue[400:500, 798:803].all(axis=1).any()  # right edge at x = 800
    assert not blue[400:500, 210:790].any()
    assert not blue[400:500, 810:].any()
    assert blue[718:723, 300:700].all(axis=0).any()  # bottom edge at y = 720


def test_scale_may_differ_by_axis(tmp_path):
    pixels = drawn(tmp_path, picture(), (2.0, 1.0), {"torch": found([400, 200, 800, 400])})
    blue = is_colour(pixels[:1024], BLUE)
    assert blue[600, 395:406].any()  # 400 / 2 picture pixels, times 2
    assert blue[600, 795:806].any()
    assert blue[795:806, 600].any()


def test_agreeing_runtimes_show_both_lines_and_one_label(tmp_path):
    same = found([100, 100, 400, 400])
    alone = drawn(tmp_path, picture(), (1, 1), {"torch": same})[:1024]
    both = drawn(tmp_path, picture(), (1, 1), {"torch": same, "onnxruntime": same})[:1024]
    left = slice(195, 206)
    assert is_colour(both[300:700, left], BLUE).any()
    assert is_colour(both[300:700, left], YELLOW).any()
    assert not is_colour(alone[300:700, left], YELLOW).any()
    # A label is a filled block of its runtime's colour; yellow has only thin dashes.
    yellow = is_colour(both, YELLOW)
    assert not any(yellow[row : row + 8, column : column + 8].all()
                   for row in range(150, 260, 2) for column in range(180, 420, 2))  # fmt: skip


def test_disagreeing_runtime_gets_its_own_label(tmp_path):
    boxes = {
        "torch": found([100, 100, 400, 400]),
        "onnxruntime": found([100, 100, 400, 400], label=2),
    }
    pixels = drawn(tmp_path, picture(), (1, 1), boxes)[:1024]
    yellow = is_colour(pixels, YELLOW)
    assert any(yellow[row : row + 4, column : column + 30].all()
               for row in range(150, 260) for column in range(180, 420, 4))  # fmt: skip


def test_no_detections_leave_the_picture_unchanged(tmp_path):
    pixels = drawn(tmp_path, picture(), (1, 1), {"torch": found()})
    assert is_colour(pixels[:1024], GREY).all()
    assert pixels.shape[0] > 1024


@pytest.mark.parametrize(
    ("size", "longer"),
    [((512, 512), SMALLEST_SIDE), ((1200, 900), 1200), ((3000, 4000), LARGEST_SIDE),
     ((1, 1), SMALLEST_SIDE), ((1, 20000), LARGEST_SIDE), ((2000, 3), LARGEST_SIDE)],
)  # fmt: skip
def test_any_picture_gives_a_drawing_of_a_readable_size(tmp_path, size, longer):
    pixels = drawn(tmp_path, picture(*size), (1, 1), {"torch": found([0, 0, 1, 1])})
    legend = pixels.shape[0] - round(size[0] * longer / max(size))
    assert 0 < legend < 200
    assert pixels.shape[1] >= min(longer, 200)
    assert max(pixels.shape) <= longer + 200


@pytest.mark.parametrize(
    "box",
    [
        [-1e30, -1e30, 1e30, 1e30],
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [30, 30, 30, 30],
        [300, 300, 100, 100],
        [600, 600, 700, 700],
    ],
)
def test_broken_boxes_do_not_stop_the_drawing(tmp_path, box):
    good = [100, 100, 400, 400]
    pixels = drawn(tmp_path, picture(), (1, 1), {"torch": found(box, good)})
    assert is_colour(pixels[300:700, 195:206], BLUE).any()


def test_lines_at_the_picture_edge_are_complete(tmp_path):
    pixels = drawn(tmp_path, picture(), (1, 1), {"torch": found([0, 0, 512, 512])})[:1024]
    assert is_colour(pixels[500, :8], BLUE).sum() >= 4
    assert is_colour(pixels[500, -8:], BLUE).sum() >= 4


def test_only_the_best_boxes_and_labels_are_drawn(tmp_path):
    rows = [[5, 10 * row + 5, 15, 10 * row + 9] for row in range(MOST_BOXES + 8)]
    pixels = drawn(tmp_path, picture(), (1, 1), {"torch": found(*rows)})
    blue = is_colour(pixels[:1024, 10:31], BLUE).any(axis=1)
    last = MOST_BOXES - 1
    assert blue[20 * last + 10 : 20 * last + 18].any()
    assert not blue[20 * (last + 1) + 24 :].any()
    # Labels reach further right than these boxes do.
    labelled = is_colour(pixels[:1024, 40:90], BLUE).any(axis=1)
    assert labelled[: 20 * MOST_LABELS].any()
    assert not labelled[20 * (MOST_LABELS + 2) :].any()


def test_drawing_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "overlay.png"
    file.write_bytes(b"old")

    def full(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="disk full"):
        draw_overlay(picture(), (1, 1), {"torch": found()}, file)
    assert [each.name for each in tmp_path.iterdir()] == ["overlay.png"]
    assert file.read_bytes() == b"old"


def test_class_names_are_cocos_in_order():
    assert len(COCO_NAMES) == 81
    assert len(set(COCO_NAMES)) == 81
    assert class_name(0) == "background"
    assert (class_name(1), class_name(3), class_name(80)) == ("person", "car", "toothbrush")
    # COCO's own ids skip twelve numbers; these are the contiguous ones.
    assert (class_name(12), class_name(25), class_name(41)) == (
        "stop sign", "backpack", "wine glass",
    )  # fmt: skip
    assert class_name(81) == "class 81"
    assert class_name(-1) == "class -1"


def test_letters_have_one_height_and_grow_with_the_size():
    heights = {letters(text, 20).height for text in ("a", "person 0.98", "gjpq", "")}
    assert len(heights) == 1
    assert letters("person", 40).width > letters("person", 20).width
    assert np.asarray(letters("person", 20)).max() == 255


def test_letters_without_a_scalable_font(monkeypatch):
    from PIL import ImageFont

    old = ImageFont.load_default_imagefont() if hasattr(
        ImageFont, "load_default_imagefont") else ImageFont.load_default()  # fmt: skip

    def load_default():  # as before Pillow 10.1: takes no size
        return old

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    small, large = letters("person", 11), letters("person", 33)
    assert large.height > small.height
    assert np.asarray(large).max() == 255
    assert letters("\u4e2d", 11).width > 0
