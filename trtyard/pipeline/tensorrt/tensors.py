"""The inputs and outputs of an engine, for the API of every release."""

import abc
from typing import Any, List, Mapping, Tuple

from trtyard.core.errors import ConversionError

Shape = Tuple[int, ...]


class Tensors(abc.ABC):
    """Inputs and outputs of one engine by name, and one execution of it.

    Names, shapes and types are the engine's and need nothing else; ``start`` takes device memory
    for an execution context, which ``fits``, ``bind`` and ``enqueue`` are about.
    """

    @abc.abstractmethod
    def names(self) -> List[str]:
        """Return every input and output."""

    @abc.abstractmethod
    def is_input(self, name: str) -> bool:
        """Tell inputs from outputs."""

    @abc.abstractmethod
    def shape(self, name: str) -> Shape:
        """Return a tensor's shape: the engine's, and after ``start`` the execution's."""

    @abc.abstractmethod
    def dtype(self, name: str) -> Any:
        """Return a tensor's numpy type."""

    @abc.abstractmethod
    def profiles(self) -> int:
        """Return the number of optimization profiles; an engine of fixed shapes may have none."""

    @abc.abstractmethod
    def limits(self, name: str, profile: int) -> Tuple[Shape, Shape, Shape]:
        """Return an input's smallest, usual and largest shape in a profile."""

    def profile_for(self, shapes: Mapping[str, Shape]) -> int:
        """Return the first profile that takes inputs of these shapes; 0 without profiles.

        Raises:
            ConversionError: none does.
        """
        inputs = [name for name in self.names() if self.is_input(name)]
        if all(-1 not in self.shape(name) for name in inputs):
            return 0
        ranges = []
        for profile in range(self.profiles()):
            limits = {name: self.limits(name, profile) for name in inputs}
            if all(_is_within(shapes[name], limits[name]) for name in inputs):
                return profile
            own = (f"{name} {list(one[0])} to {list(one[2])}" for name, one in limits.items())
            ranges.append(", ".join(own))
        given = ", ".join(f"{name} {list(shapes[name])}" for name in inputs)
        raise ConversionError(
            f"no optimization profile of the engine takes {given}",
            "the profiles take: " + "; ".join(ranges),
        )

    @abc.abstractmethod
    def start(self, profile: int = 0, stream: int = 0) -> None:
        """Make an execution context, with a profile that the CUDA stream ``stream`` sets."""

    @abc.abstractmethod
    def fits(self, name: str, shape: Shape) -> bool:
        """Set an input's shape; False if the engine does not take it."""

    @abc.abstractmethod
    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""

    @abc.abstractmethod
    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""


def _is_within(shape: Shape, limits: Tuple[Shape, Shape, Shape]) -> bool:
    least, _usual, most = limits
    return len(shape) == len(least) and all(
        low <= size <= high for low, size, high in zip(least, shape, most)
    )
