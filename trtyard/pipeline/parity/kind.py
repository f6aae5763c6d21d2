"""How the outputs of one kind of model are compared and shown. A model's family defines it."""

from typing import Callable, List, Mapping, NamedTuple, Optional

import numpy as np

from trtyard.pipeline.parity.detections import Thresholds
from trtyard.pipeline.parity.padded import Detections
from trtyard.pipeline.parity.tolerance import Tolerance

ANY = "*"  # any output without its own tolerance


class Kind(NamedTuple):
    """How a family's outputs are compared."""

    name: str  # ``Model.kind``
    tolerances: Mapping[str, Tolerance]  # by output, or ANY
    # The detections in each image, which are matched instead of compared by row, and drawn.
    detections: Optional[Callable[[Mapping[str, np.ndarray]], List[Detections]]] = None
    # Every output has a row for each detection. Outputs without boxes are compared by match, too.
    has_row_each: bool = False
    # The network's thresholds, which explain a difference near one of them.
    thresholds: Optional[Thresholds] = None
    may_hold_float16: bool = False  # float32 outputs may have float16's rounding errors

    @property
    def is_detector(self) -> bool:
        """Whether its outputs are detections."""
        return self.detections is not None
