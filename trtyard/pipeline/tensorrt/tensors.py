"""The inputs and outputs of an engine, for the API of every release."""

import abc
from typing import Any, List, Tuple

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
    def start(self) -> None:
        """Make an execution context."""

    @abc.abstractmethod
    def fits(self, name: str, shape: Shape) -> bool:
        """Set an input's shape; False if the engine does not take it."""

    @abc.abstractmethod
    def bind(self, name: str, address: int) -> None:
        """Set where a tensor is in device memory."""

    @abc.abstractmethod
    def enqueue(self, stream: int) -> bool:
        """Put one run into a CUDA stream, given by its handle."""
