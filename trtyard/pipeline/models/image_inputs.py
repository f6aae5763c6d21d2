"""``--input`` for models that take pictures, [B, 3, H, W]: batch and, for some, the sides vary."""

from typing import Callable, List, NamedTuple, Optional, Tuple

import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Dynamic, Profile, Sizes, shape_at
from trtyard.pipeline.models.input_text import read_inputs
from trtyard.pipeline.models.own_inputs import require_size
from trtyard.pipeline.models.seeding import Seed

NAME = "images"
_CHANNELS = 3
_DIMENSIONS = ("batch", "channels", "height", "width")


class ImageInputs(NamedTuple):
    """The shape of the pictures, and how it varies."""

    batch: int
    height: int
    width: int
    axes: Tuple[Tuple[int, str], ...] = ()  # of the dimensions that vary
    profiles: Tuple[Profile, ...] = ()

    @property
    def has_open_batch(self) -> bool:
        """Whether the batch varies."""
        return any(index == 0 for index, _name in self.axes)

    @property
    def sides(self) -> List[int]:
        """Every height and width that a profile names."""
        names = [name for index, name in self.axes if index > 1]
        ranges = [size for one in self.profiles for name in names for size in one[name]]
        return [self.height, self.width, *ranges]

    def draw(self, picture_at: Callable[[int, int], torch.Tensor], seed: int = 0) -> torch.Tensor:
        """Return the pictures at their usual size, float32 [B, 3, H, W].

        Args:
            picture_at: returns the picture as [1, 3, H, W] for a height and a width.
            seed: of the variations.
        """
        return variations(picture_at(self.height, self.width), self.batch, seed)

    def repeated(self, image: torch.Tensor) -> torch.Tensor:
        """Return [1, 3, H, W] as a batch of the usual size, float32 [B, 3, H, W]."""
        return image.repeat(self.batch, 1, 1, 1)

    def dynamic(self, picture_at: Callable[[int, int], torch.Tensor]) -> Optional[Dynamic]:
        """Return how the pictures vary, or None if they do not; see ``draw``."""
        if not self.axes:
            return None
        axes = dict(self.axes)
        usual = (self.batch, _CHANNELS, self.height, self.width)

        def draw(sizes: Sizes, seed: int) -> Tuple[torch.Tensor, ...]:
            batch, _channels, height, width = shape_at(usual, axes, sizes)
            return (variations(picture_at(height, width), batch, seed),)

        return Dynamic((axes,), self.profiles, draw)


def read_images(text: str, spec: str, size: Optional[int], sides_vary: bool) -> ImageInputs:
    """Read "1..8x3x224x224".

    Args:
        text: what follows ``--input``.
        spec: the model, for errors.
        size: of ``--size``, which says the same.
        sides_vary: whether height and width may be ranges.

    Raises:
        UsageError: it is no such shape, or something varies that the model has as a constant.
    """
    example = f"--input 1..8x3x{size or 224}x{size or 224}"
    asked = read_inputs(text, _DIMENSIONS)
    if size is not None:
        raise UsageError(
            "--size and --input both set the size of the pictures", f"leave --size out: {example}"
        )
    one = asked.inputs[0]
    if len(asked.inputs) > 1:
        raise UsageError(f"--input {text}: {spec} has one input, not {len(asked.inputs)}", example)
    if one.name not in ("", NAME):
        raise UsageError(
            f"--input {text}: {spec} has no input '{one.name}'; it has: {NAME}", example
        )
    if one.kind is not None or one.values is not None:
        raise UsageError(f"--input {text}: the pictures of {spec} are always float32", example)
    if len(one.shape) != len(_DIMENSIONS):
        raise UsageError(
            f"--input {text}: {spec} takes 4 dimensions, batch x 3 x height x width, "
            f"not {len(one.shape)}",
            example,
        )
    axes = asked.axes[0]
    if one.shape[1] != _CHANNELS or 1 in axes:
        raise UsageError(f"--input {text}: the pictures of {spec} have 3 channels", example)
    varying = [_DIMENSIONS[index] for index in axes if index > 1]
    if varying and not sides_vary:
        raise UsageError(
            f"--input {text}: only the batch of {spec} can vary; its anchors are constants made "
            f"for one height and width, so {' and '.join(varying)} cannot",
            "--input 1..8x3x512x512",
        )
    require_size(one, text)
    batch, _channels, height, width = one.shape
    return ImageInputs(batch, height, width, tuple(sorted(axes.items())), asked.profiles)


def variations(image: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Return [1, 3, H, W] as [B, 3, H, W]: pictures that differ, the same for a seed everywhere.

    Each is shifted around its edges by a random number of pixels, and every second one mirrored.
    The first one of seed 0 is the picture itself.
    """
    height, width = image.shape[2:]
    draw = Seed(seed)
    pictures = []
    for number in range(count):
        down, right = int(draw.whole((), height)), int(draw.whole((), width))
        if number == 0 and seed == 0:
            down = right = 0
        shifted = torch.roll(image, (down, right), (2, 3))
        pictures.append(shifted.flip(3) if number % 2 else shifted)
    return torch.cat(pictures)
