"""A model of any kind: its module, the inputs of this run, and where they come from."""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch

from trtyard.pipeline.models.picture import Picture


class Weights(NamedTuple):
    """Where a model's weights came from."""

    source: str  # "seeded:0", the file as the user typed it, or a description for an own model
    sha256: str  # of the file, or without one of the state (``checkpoint.state_sha256``)


class Model(NamedTuple):
    """A model ready to run, export and compare."""

    name: str  # as the user typed it
    kind: str  # the name of its family's kind, such as "classifier"
    module: torch.nn.Module  # in eval mode, on the CPU
    input_names: Tuple[str, ...]
    output_names: Tuple[str, ...]
    inputs: Tuple[torch.Tensor, ...]  # this run's real inputs
    weights: Weights
    picture: Optional[Picture]
    scale: Tuple[float, float]  # network-input pixels per picture pixel, (x, y)
    exporter: Optional[str] = None  # the one that takes it, where a row's own does not
    proposal_rows: int = 0  # rows of a detector's box head for one image, including padding
    notes: Tuple[str, ...] = ()  # what the report should say of it, a sentence each
    # From a picture, uint8 [H, W, 3], to the model's one input; None where that is not known.
    prepare: Optional[Callable[[Any], torch.Tensor]] = None
