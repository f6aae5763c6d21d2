"""The output of a user's code, without what moves the cursor, colours or commands a terminal."""

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
# What may be the beginning of one of them, at the end of a piece.
_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\xc2)\Z")
_ESCAPE = b"\x1b"
_LONGEST = 4096  # bytes of a code; what is longer is no code


class Plain:
    """Takes codes out of a stream that comes in pieces, which may end inside of a code."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return what of the piece, and of those before it, can be shown by now."""
        text = self._held + piece
        begun = _BEGUN.search(text, max(0, len(text) - _LONGEST))
        end = len(text) if begun is None else begun.start()
        self._held = text[end:]
        return _without_codes(text[:end])

    def rest(self) -> bytes:
        """Return what was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return _without_codes(held)


def _without_codes(text: bytes) -> bytes:
    return _CODES.sub(b"", text).replace(_ESCAPE, b"")
