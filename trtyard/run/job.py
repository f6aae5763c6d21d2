"""The job of a conversion, and the interface of the executors that run it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trtyard.core.ended import request_file
from trtyard.core.files import write_json
from trtyard.core.model_call import read_call
from trtyard.core.request import ConversionRequest
from trtyard.core.short_forms import HF
from trtyard.fetching.weights import WeightsFile
from trtyard.lock.file import LockedRow
from trtyard.matrix.row import ExecutorName, Row
from trtyard.run.requirements import NO_REQUIREMENTS, Requirements


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversion. All paths are absolute on this machine; the input files exist."""

    row: Row
    locked: LockedRow
    request: ConversionRequest  # as typed; the paths below replace its paths
    out: Path
    model_file: Path | None = None  # for file.py:callable
    code_folder: Path | None = None  # for module:callable: the current folder
    onnx_file: Path | None = None
    onnx_folder: Path | None = None  # that of ``onnx_file``, if weights are in files beside it
    input_file: Path | None = None  # the values of the inputs
    compared_file: Path | None = None  # the ONNX file of --onnx
    compared_folder: Path | None = None  # as ``onnx_folder``
    weights: Path | None = None
    weights_key: str = ""  # the key in the weights file
    weights_file: WeightsFile | None = None  # on a server, before ``weights`` is downloaded
    weights_name: str = ""  # how reports call ``weights``, if not by its path
    image: Path | None = None
    plugins: Path | None = None
    ops: Path | None = None
    calibrate: Path | None = None  # a folder or a file
    requirements: Requirements = NO_REQUIREMENTS  # packages beside the row's
    short_folder: Path | None = None  # for hf:FOLDER

    def placed(self, place: Callable[[Path], str] | None = None) -> ConversionRequest:
        """Return the request as the pipeline reads it.

        ``place`` maps a path of this machine to the pipeline's path for it. Without it, the paths
        and the current folder are the same.
        """
        model = self.request.model
        if place is not None and self.model_file is not None:
            call = read_call(model)
            model = f"{place(self.model_file)}:{call.name}{call.typed}"
        if place is not None and self.onnx_file is not None:
            model = _placed(self.onnx_file, self.onnx_folder, place)
        elif place is not None and self.short_folder is not None:
            model = f"{HF}:{place(self.short_folder)}"
        place = place or str
        paths = {
            "image": self.image,
            "plugins": self.plugins,
            "ops": self.ops,
            "input": self.input_file,
            "calibrate": self.calibrate,
        }
        changes = {name: place(path) for name, path in paths.items() if path is not None}
        if self.compared_file is not None:
            changes["onnx"] = _placed(self.compared_file, self.compared_folder, place)
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
            executor: which executor runs the job.
            row_file: the pipeline's path of the row's JSON file.
            place: see ``placed``.
            changes: request fields that the executor sets.
        """
        file = request_file(self.out)
        write_json(file, self.placed(place).replaced(**changes).to_json())
        out = (place or str)(self.out)
        words = [self.request.task, "--row-file", row_file, "--executor", executor]
        if self.weights is not None and self.weights_file is not None:
            words += ["--weights-address", self.weights_file.shown]
            words += ["--shown-as", (place or str)(self.weights), self.weights_name]
        return [*words, "--out", out, "--request", f"{out}/{file.name}"]

    def inputs(self) -> list[Path]:
        """Return the user's files and folders that the pipeline reads."""
        named = (
            *(self.weights, self.image, self.plugins, self.ops, self.calibrate),
            *(self.model_file, self.code_folder, self.short_folder),
        )
        onnx = (self.onnx_folder or self.onnx_file, self.compared_folder or self.compared_file)
        return [one for one in (*named, *onnx, self.input_file) if one is not None]


def _placed(file: Path, folder: Path | None, place: Callable[[Path], str]) -> str:
    return place(file) if folder is None else f"{place(folder)}/{file.name}"


class Executor(Protocol):
    """The functions that the modules ``on_host`` and ``in_docker`` both have."""

    def why_not(self, row: Row, locked: LockedRow) -> str | None:
        """Return why the row cannot run here now, or None if it can. Quick, writes nothing."""

    def describe(self, row: Row, locked: LockedRow) -> str:
        """Return what would run and what would be made first, for ``--dry-run``."""

    def output_of(self, row: Row, locked: LockedRow, words: Sequence[str]) -> str:
        """Return what a command of the pipeline prints; make the environment first if needed."""

    def convert(self, job: Job) -> int:
        """Run the job, show its output and return its exit code; make what is missing first."""
