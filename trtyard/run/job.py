"""Where a row's toolchain runs. Each executor carries out the same job the same way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trtyard.core.files import PARTIAL_PREFIX, write_json
from trtyard.core.request import REQUEST_FILE, ConversionRequest
from trtyard.lock.file import LockedRow
from trtyard.matrix.row import ExecutorName, Row


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversion. Every path is absolute on this machine and exists."""

    row: Row
    locked: LockedRow
    request: ConversionRequest  # as typed, but for the paths below
    out: Path
    model_file: Path | None = None  # of file.py:callable
    code_folder: Path | None = None  # where module:callable is imported from: the current folder
    weights: Path | None = None
    weights_key: str = ""  # where in the file of weights
    image: Path | None = None
    plugins: Path | None = None

    def placed(self, place: Callable[[Path], str] | None = None) -> ConversionRequest:
        """Return the request as the pipeline reads it.

        ``place`` gives the path that a file or folder of this machine has where the pipeline runs;
        without it the paths are the same, and so is the current folder.
        """
        model = self.request.model
        if place is not None and self.model_file is not None:
            model = f"{place(self.model_file)}:{model.rpartition(':')[2]}"
        place = place or str
        paths = {"image": self.image, "plugins": self.plugins}
        changes = {name: place(path) for name, path in paths.items() if path is not None}
        if self.weights is not None:
            key = f"#{self.weights_key}" if self.weights_key else ""
            changes["weights"] = place(self.weights) + key
        return self.request.replaced(model=model, **changes)

    def arguments(
        self,
        executor: ExecutorName,
        row_file: str,
        place: Callable[[Path], str] | None = None,
        **changes: str,
    ) -> list[str]:
        """Write the request into the output folder; return the pipeline's command line.

        Args:
            executor: what runs it.
            row_file: the row's facts, where the pipeline runs.
            place: see ``placed``.
            changes: fields of the request that the executor sets.
        """
        name = f"{PARTIAL_PREFIX}{REQUEST_FILE}"
        write_json(self.out / name, self.placed(place).replaced(**changes).to_json())
        out = (place or str)(self.out)
        words = ["convert", "--row-file", row_file, "--executor", executor]
        return [*words, "--out", out, "--request", f"{out}/{name}"]

    def inputs(self) -> list[Path]:
        """Return the files and folders that the pipeline reads, beside trtyard's own."""
        named = (self.weights, self.image, self.plugins, self.model_file, self.code_folder)
        return [one for one in named if one is not None]


class Executor(Protocol):
    """What the modules ``on_host`` and ``in_docker`` each provide as functions."""

    def why_not(self, row: Row, locked: LockedRow) -> str | None:
        """Return why the row cannot run here as things are, or None if it can. Quick, no writes."""

    def describe(self, row: Row, locked: LockedRow) -> str:
        """Return what would run, and what would be made first."""

    def convert(self, job: Job) -> int:
        """Make what is missing, run the job, pass its output on and return its exit code."""
