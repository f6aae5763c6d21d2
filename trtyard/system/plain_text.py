"""Removes terminal control codes (colours, cursor movement) from the output of a user's code."""

import re

# ECMA-48: control sequences, strings up to their terminator, shorter escapes; then every other
# control character but tab, line feed and carriage return, which progress bars need; C1 in UTF-8.
_CODES = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
    rb"|\xc2[\x80-\x9f]"
)
# An incomplete code at the end of a piece.
_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\xc2)\Z")
_ESCAPE = b"\x1b"
_LONGEST = 4096  # bytes; anything longer is not a control code


class Plain:
    """Removes control codes from a stream of pieces; a piece may end inside a code."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the text that is complete so far; keep back an unfinished code."""
        text = self._held + piece
        begun = _BEGUN.search(text, max(0, len(text) - _LONGEST))
        end = len(text) if begun is None else begun.start()
        self._held = text[end:]
        return _without_codes(text[:end])

    def rest(self) -> bytes:
        """Return the text kept back, after the last piece."""
        held, self._held = self._held, b""
        return _without_codes(held)


def _without_codes(text: bytes) -> bytes:
    return _CODES.sub(b"", text).replace(_ESCAPE, b"")
