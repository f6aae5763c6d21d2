"""Check ``--size`` and the sides in ``--input``."""

from typing import Optional

from trtyard.core.errors import UsageError


def require_side(
    name: str, side: int, smallest: int, largest: int, usual: int, asked: Optional[str] = None
) -> None:
    """Raise UsageError if the model ``name`` does not support a side of ``side`` pixels.

    ``asked`` is the text of ``--input``, if the side comes from there.
    """
    if smallest <= side <= largest:
        return
    supported = f"{name} supports {smallest} to {largest} pixels"
    if asked is not None:
        raise UsageError(
            f"--input {asked}: {supported}, not {side}", f"--input 1x3x{usual}x{usual}"
        )
    raise UsageError(f"--size {side}: {supported}", f"--size {usual}")
