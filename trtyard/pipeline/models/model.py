"""A model of any kind: its module, this run's inputs, and their sources."""

from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Tuple

import onnx
import torch

from trtyard.core.report import OnnxFile, Preprocess
from trtyard.pipeline.dynamic.dimensions import Dynamic
from trtyard.pipeline.models.picture import Picture


class Weights(NamedTuple):
    """The source of a model's weights."""

    source: str  # "seeded:0", the file as the user typed it, or a description for an own model
    sha256: str  # of the file, or of the state if there is no file (``checkpoint.state_sha256``)


class GivenFile(NamedTuple):
    """An ONNX file that was given as the model."""

    path: Path
    content: onnx.ModelProto  # without external data; changed when it is written
    facts: OnnxFile
    precision: str  # types of the weights, as the report has them


class Model(NamedTuple):
    """A model ready to run, export and compare."""

    name: str  # as the user typed it
    kind: str  # the name of its family's kind, such as "classifier"
    module: torch.nn.Module  # in eval mode, on the CPU; an empty one for an ONNX file
    input_names: Tuple[str, ...]
    output_names: Tuple[str, ...]
    inputs: Tuple[torch.Tensor, ...]  # this run's real inputs
    weights: Weights
    picture: Optional[Picture]
    scale: Tuple[float, float]  # network-input pixels per picture pixel, (x, y)
    exporter: Optional[str] = None  # the one that supports it, if the row's own does not
    proposal_rows: int = 0  # rows of a detector's box head for one image, including padding
    notes: Tuple[str, ...] = ()  # sentences for the report
    file: Optional[GivenFile] = None  # in place of the module
    dynamic: Optional[Dynamic] = None  # the sizes of the inputs that vary
    # Returns the model's one input for a picture, uint8 [H, W, 3]; None if that is not known.
    prepare: Optional[Callable[[Any], torch.Tensor]] = None
    preprocess: Optional[Preprocess] = None  # of the picture
    static_form: Optional[torch.nn.Module] = None  # exported in place of ``module``

    @property
    def to_export(self) -> torch.nn.Module:
        """The module that is exported; ``module`` is the reference."""
        return self.module if self.static_form is None else self.static_form
