"""What ``--size`` may be."""

from trtyard.core.errors import UsageError


def require_side(name: str, side: int, smallest: int, largest: int, usual: int) -> None:
    """Raise UsageError where ``side`` is not within what the model ``name`` takes, in pixels."""
    if not smallest <= side <= largest:
        raise UsageError(
            f"--size {side}: {name} takes a side from {smallest} to {largest} pixels",
            f"--size {usual}",
        )
