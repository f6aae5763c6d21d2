"""Check ``--size``."""

from trtyard.core.errors import UsageError


def require_side(name: str, side: int, smallest: int, largest: int, usual: int) -> None:
    """Raise UsageError if the model ``name`` does not support a side of ``side`` pixels."""
    if not smallest <= side <= largest:
        raise UsageError(
            f"--size {side}: {name} supports {smallest} to {largest} pixels",
            f"--size {usual}",
        )
