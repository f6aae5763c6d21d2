"""A torchvision detector with padded outputs: the reference, and the static form for export."""

from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch import nn

from trtyard.pipeline.models.static_detectors.rewriting import Rewrite, refuse_unknown, rewritten
from trtyard.pipeline.onnx_model.versions import CAN_FOLD

COUNT = "count"


class OneImage(nn.Module):
    """Adapts a torchvision detector, which takes a list of images, to a batch of one."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: torch.Tensor) -> Any:
        """Return torchvision's list with one dict.

        Args:
            images: float32 [1, 3, H, W], RGB in 0..1.
        """
        return self.detector([images[0]])


class PaddedReference(OneImage):
    """The unmodified detector. Its outputs are padded afterwards, for comparison."""

    def forward(self, images: torch.Tensor) -> List[Dict[str, torch.Tensor]]:
        """Return torchvision's outputs with zeros up to ``capacity_of`` rows, and ``count``.

        ``count`` is int32 [1], the number of rows that are not padding.
        """
        (found,) = super().forward(images)
        rows = capacity_of(self.detector)
        padded = {name: _with_zeros(value, rows) for name, value in found.items()}
        padded[COUNT] = torch.tensor([len(found["scores"])], dtype=torch.int32)
        return [padded]


class StaticDetector(OneImage):
    """The detector with torchvision's functions replaced: its shapes do not depend on values."""

    has_fixed_sizes = CAN_FOLD  # the TorchScript exporter then writes sizes as constants
    # Its functions are right in a trace, or replaced: the tracer's warnings about them say nothing.
    checked_package = "torchvision"

    def __init__(
        self,
        detector: nn.Module,
        rewrites: Sequence[Rewrite],
        output_names: Sequence[str],
    ) -> None:
        """Take a detector that is in eval mode and went through ``anchors_kept``.

        Args:
            detector: with boxes as torchvision gives them.
            rewrites: of ``form_of``.
            output_names: of ``PaddedReference``.

        Raises:
            UsageError: the installed torchvision is not one that ``rewrites`` are for.
        """
        super().__init__(detector)
        refuse_unknown(rewrites)
        self._rewrites = tuple(rewrites)
        self._output_names = tuple(output_names)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """Return the outputs in the order of ``output_names``, as ``PaddedReference`` pads them."""
        with rewritten(self._rewrites):
            (found,) = super().forward(images)
        return tuple(found[name] for name in self._output_names)


def capacity_of(detector: Any) -> int:
    """Return the most detections that the detector returns for one image."""
    owner = detector if hasattr(detector, "detections_per_img") else detector.roi_heads
    return int(owner.detections_per_img)


def _with_zeros(value: torch.Tensor, rows: int) -> torch.Tensor:
    padded = value.new_zeros((rows, *value.shape[1:]))
    padded[: len(value)] = value
    return padded
