"""The inputs of a user's own model: ``--input 1x3x224x224,1..8x16:int64:30522``."""

from typing import List, NamedTuple, Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Axes, Profile
from trtyard.pipeline.models.input_text import EXAMPLE, Input, read_inputs
from trtyard.pipeline.models.seeding import Seed

__all__ = ["EXAMPLE", "OwnInput", "OwnInputs", "parse_inputs", "require_size"]

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


class OwnInput(NamedTuple):
    """One input as the user asked for it."""

    shape: Tuple[int, ...]
    dtype: torch.dtype = torch.float32
    below: int = 2  # whole numbers go from 0 up to this one, which is left out
    is_typed: bool = False  # floating, and the user named the type
    name: str = ""  # of forward's parameter, if the user named it

    def draw(self, seed: Seed) -> torch.Tensor:
        """Return random values: around zero with deviation one, or whole numbers, or true/false."""
        if self.dtype in _FLOATS:
            return seed.uniform(self.shape, 1.0).to(self.dtype)
        return seed.whole(self.shape, self.below).to(self.dtype)

    def __str__(self) -> str:
        """Return shape and type as PyTorch would show them."""
        return f"{list(self.shape)} {str(self.dtype).replace('torch.', '')}"


class OwnInputs(NamedTuple):
    """All inputs, and which of their sizes vary."""

    inputs: List[OwnInput]
    axes: Axes
    profiles: Tuple[Profile, ...]

    @property
    def vary(self) -> bool:
        """Whether any size does."""
        return any(self.axes)


def parse_inputs(text: str) -> OwnInputs:
    """Read "1x3x224x224,1..8x16:int64:30522,1..8x16:bool"; see ``input_text`` for the grammar.

    Raises:
        UsageError: anything else, a dimension of zero, or more than 2^28 numbers.
    """
    asked = read_inputs(text)
    return OwnInputs([_checked(one, text) for one in asked.inputs], asked.axes, asked.profiles)


def _checked(one: Input, text: str) -> OwnInput:
    kind, values = one.kind, one.values
    dtype = _TYPES.get(kind or "float32")
    if dtype is None:
        raise UsageError(
            f"--input {text}: type {kind} is not supported; use {', '.join(_TYPES)}",
            "--input 1x16:int64:30522   (whole numbers from 0 to 30521)",
        )
    if values is not None and dtype in (*_FLOATS, torch.bool):
        raise UsageError(
            f"--input {text}: only integer types have a number of values", "leave it out"
        )
    most = _MOST_OF_UINT8 if dtype == torch.uint8 else _MOST_VALUES
    if values is not None and not 1 <= values <= most:
        raise UsageError(
            f"--input {text}: {values} values; the limits are 1 and {most}",
            "--input 1x16:int64:30522   (whole numbers from 0 to 30521)",
        )
    require_size(one, text)
    is_typed = kind is not None and dtype in _FLOATS
    return OwnInput(one.shape, dtype, values or 2, is_typed, one.name)


def require_size(one: Input, text: str) -> None:
    """Raise UsageError for an input of no numbers, or of too many."""
    if not (1 <= one.largest <= _LARGEST and min(one.shape) > 0):
        raise UsageError(
            f"--input {text}: {one.text} has {one.largest} numbers; the limits are 1 and "
            f"{_LARGEST}",
            EXAMPLE,
        )
