"""Where a row's toolchain runs. Each executor carries out the same job the same way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trtyard.lock.file import LockedRow
from trtyard.matrix.row import ExecutorName, Row


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversion. Every path is absolute on this machine and exists."""

    row: Row
    locked: LockedRow
    model: str  # as the user typed it
    model_file: Path | None  # of file.py:callable
    code_folder: Path | None  # what module:callable is imported from: where the user stands
    out: Path
    weights: str | Path | None
    image: Path | None
    plugins: Path | None
    weights_key: str = ""  # where in the file of weights
    options: tuple[str, ...]  # further words for the pipeline, such as --size 320
    memory: str = ""  # of a container, as --memory has it
    processes: str = ""

    def arguments(
        self,
        executor: ExecutorName,
        row_file: str,
        place: Callable[[Path], str] | None = None,
    ) -> list[str]:
        """Return the words behind ``python -m trtyard.pipeline``.

        ``place`` gives the name that a file or folder of this machine has where the pipeline runs;
        without it the names are the same, and so is the folder that the user stands in.
        """
        model = self.model
        if place is not None and self.model_file is not None:
            model = f"{place(self.model_file)}:{model.rpartition(':')[2]}"
        place = place or str
        words = ["convert", "--row-file", row_file, "--model", model, "--out", place(self.out)]
        words += ["--executor", executor]
        for option, value in (
            ("--weights", self.weights),
            ("--image", self.image),
            ("--plugins", self.plugins),
        ):
            if value is not None:
                words += [option, place(value) if isinstance(value, Path) else value]
                if option == "--weights" and self.weights_key:
                    words[-1] += f"#{self.weights_key}"
        return [*words, *self.options]

    def inputs(self) -> list[Path]:
        """Return the files and folders that the pipeline reads, beside trtyard's own."""
        named = (self.weights, self.image, self.plugins, self.model_file, self.code_folder)
        return [one for one in named if isinstance(one, Path)]


class Executor(Protocol):
    """What the modules ``host`` and ``docker`` beside this one each provide as functions."""

    def why_not(self, row: Row, locked: LockedRow) -> str | None:
        """Return why the row cannot run here as things are, or None if it can. Quick, no writes."""

    def describe(self, row: Row, locked: LockedRow) -> str:
        """Return in half a sentence what would run, and what would have to be made first."""

    def convert(self, job: Job) -> int:
        """Make ready what is missing, run the job, pass its output on and return its exit code."""
