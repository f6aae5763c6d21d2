"""Weights that torchvision publishes: how they are asked for, and the hash in a file's name.

Standard library only, Python 3.6.
"""

import re

PRETRAINED = "pretrained"  # the value of --weights
_DIGITS = re.compile(r"-([0-9a-f]{8,})\.\w+\Z")  # torch.hub's convention


def digits_in(name: str) -> str:
    """Return the first digits of its sha256 that a published file's name has, or ""."""
    found = _DIGITS.search(name)
    return found.group(1) if found else ""
