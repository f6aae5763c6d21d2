"""Paths as a user types them. Standard library only, Python 3.6."""

from pathlib import Path

from trtyard.core.errors import UsageError


def typed_path(text: str) -> Path:
    """Return the absolute path; ``~`` is the home folder.

    Raises:
        UsageError: the path starts with the ``~`` of an unknown user.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise UsageError(f"{text}: no such user", "give a path without ~") from None
