"""Terminal codes are taken out of a stream, wherever its pieces end."""

import random

import pytest

from trtyard.system.plain_text import Plain

TEXTS = {
    b"a\x1b[31mred\x1b[0m b": b"ared b",
    b"\x1b[2J\x1b[1;1Hhome\x1b[?25l": b"home",
    b"\x1b]0;title\x07x": b"x",
    b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\!": b"link!",
    b"\x1bP1$r0m\x1b\\k": b"k",
    b"\x1b(Bx\x1bcy\x1b7z": b"xyz",
    b"10%\r20%\r\n\ttab\x07\x08": b"10%\r20%\r\n\ttab",
    "\u00e9\u009b31m \u4e2d\u6587 \u00c2".encode(): "\u00e931m \u4e2d\u6587 \u00c2".encode(),
    b"not utf-8: \xe9\xff": b"not utf-8: \xe9\xff",
    b"ends in one\x1b": b"ends in one",
}


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_codes_split_across_chunks_are_removed(text):
    for seed in range(50):
        plain, draw, shown, start = Plain(), random.Random(seed), b"", 0  # noqa: S311
        while start < len(text):
            end = start + draw.randint(1, 5)
            shown += plain.feed(text[start:end])
            start = end
        assert shown + plain.rest() == TEXTS[text]


def test_text_without_terminal_codes_is_not_delayed():
    plain = Plain()
    assert plain.feed(b"50 %\r") == b"50 %\r"
    assert plain.feed(b"\x1b]" + b"x" * 5000) == b"]" + b"x" * 5000


def test_terminal_codes_are_removed():
    draw = random.Random(0)  # noqa: S311
    for _ in range(300):
        text = bytes(draw.choice(b"\x1b\x9b\x07[]\\;0m1HP_\xc2\n\x00 a") for _ in range(40))
        plain = Plain()
        shown = plain.feed(text[:17]) + plain.feed(text[17:]) + plain.rest()
        assert not set(shown) & {0, 7, 27}
