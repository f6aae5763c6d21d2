"""What TensorRT says while it works, kept for the report."""

from typing import List


class Log:
    """Warnings and errors in the order they came."""

    def __init__(self) -> None:
        self.errors: List[str] = []
        self.warnings: List[str] = []

    def last_errors(self, count: int = 5) -> str:
        """Return the newest errors, one a line; a plain sentence when there are none."""
        return "\n".join(self.errors[-count:]) or "TensorRT gave no reason"
