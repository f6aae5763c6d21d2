"""The inputs of a user's own model: ``--input 1x3x224x224,1x16:int64:30522``."""

import re
from typing import List, NamedTuple, Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.seeding import Seed

EXAMPLE = "--input 1x3x224x224"
# A gigabyte of float32.
_LARGEST = 1 << 28
# What 24 random bits can tell apart.
_MOST_VALUES = 1 << 24
_TYPES = {
    "float32": torch.float32,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
    "float16": torch.float16,
    "uint8": torch.uint8,
}
_FLOATS = (torch.float32, torch.float16)
_MOST_OF_UINT8 = 256
_INPUT = re.compile(r"\s*([0-9]+(?:x[0-9]+)*)(?::([a-z]+[0-9]*))?(?::([0-9]+))?\s*\Z")
# A size that is left open, as other tools take it.
_OPEN = re.compile(r"-1|[?*]|(?:^|x)[A-Za-z_]+(?:x|$)")


class OwnInput(NamedTuple):
    """One input as the user asked for it."""

    shape: Tuple[int, ...]
    dtype: torch.dtype = torch.float32
    below: int = 2  # whole numbers go from 0 up to this one, which is left out
    is_typed: bool = False  # floating, and the user named the type

    def draw(self, seed: Seed) -> torch.Tensor:
        """Return random values: around zero with deviation one, or whole numbers, or true/false."""
        if self.dtype in _FLOATS:
            return seed.uniform(self.shape, 1.0).to(self.dtype)
        return seed.whole(self.shape, self.below).to(self.dtype)

    def __str__(self) -> str:
        """Return shape and type as PyTorch would show them."""
        return f"{list(self.shape)} {str(self.dtype).replace('torch.', '')}"


def parse_inputs(text: str) -> List[OwnInput]:
    """Read "1x3x224x224,1x16:int64:30522,1x16:bool".

    Raises:
        UsageError: anything else, a dimension of zero, or more than 2^28 numbers.
    """
    return [_parse(part, text) for part in text.split(",")]


def _parse(part: str, text: str) -> OwnInput:
    found = _INPUT.match(part)
    if found is None:
        hint = EXAMPLE
        if _OPEN.search(part.strip()):
            hint = f"every size is fixed, the batch too: give the engine's own, {EXAMPLE}"
        raise UsageError(f"--input {text}: '{part}' is not a shape such as 1x3x224x224", hint)
    sizes, kind, below = found.groups()
    dtype = _TYPES.get(kind or "float32")
    if dtype is None:
        raise UsageError(
            f"--input {text}: no input can be {kind}; there are {', '.join(_TYPES)}",
            "--input 1x16:int64:30522   (whole numbers from 0 to 30521)",
        )
    if below is not None and dtype in (*_FLOATS, torch.bool):
        raise UsageError(
            f"--input {text}: only whole numbers take a number of values", "leave it out"
        )
    most = _MOST_OF_UINT8 if dtype == torch.uint8 else _MOST_VALUES
    if below is not None and not 1 <= int(below) <= most:
        raise UsageError(
            f"--input {text}: {below} values; 1 to {most} can be taken",
            "--input 1x16:int64:30522   (whole numbers from 0 to 30521)",
        )
    shape = tuple(int(size) for size in sizes.split("x"))
    total = 1
    for size in shape:
        total *= size
    if not 1 <= total <= _LARGEST:
        raise UsageError(
            f"--input {text}: {part} has {total} numbers; 1 to {_LARGEST} can be taken", EXAMPLE
        )
    return OwnInput(shape, dtype, int(below or 2), kind is not None and dtype in _FLOATS)
