"""HTML built from calls, so that text cannot become markup by accident.

``tag`` escapes every child and attribute that is not already :class:`Markup`.
"""

import html

from trtyard.report.words import printable

_VOID = frozenset(("br", "img", "meta"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None


def escaped(text: str) -> Markup:
    """Return text as HTML; what is :class:`Markup` already stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text), quote=True))


def joined(*children: Child) -> Markup:
    """Return children one after the other; None is left out."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def tag(element: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element. ``class_`` gives class, ``stroke_width`` gives stroke-width."""
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escaped(_text(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{joined(*children)}</{element}>")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
