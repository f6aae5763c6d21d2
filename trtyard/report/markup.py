"""Build HTML with function calls that escape all text.

``tag`` escapes every child and attribute that is not :class:`Markup`.
"""

import html

from trtyard.report.words import printable

_VOID = frozenset(("br", "img", "meta"))


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


Child = str | None


def escaped(text: str) -> Markup:
    """Return text as HTML; :class:`Markup` is returned unchanged."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text), quote=True))


def joined(*children: Child) -> Markup:
    """Return the children concatenated, without None."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def tag(element: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element; the attribute ``class_`` becomes class, ``stroke_width`` stroke-width."""
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escaped(_text(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{joined(*children)}</{element}>")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
