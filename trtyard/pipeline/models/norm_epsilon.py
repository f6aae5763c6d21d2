"""Find the epsilon of a torchvision detector's norms, which a checkpoint does not contain.

A detector trained today has frozen batch norms with an epsilon of 1e-5. torchvision's first weights
are from a time when it was 0, and torchvision sets 0 only for those (``overwrite_eps`` in its
models/detection).
"""

from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from trtyard.core.files import sha256_of
from trtyard.pipeline.models.checkpoint_keys import COUNT, State
from trtyard.pipeline.torch_support.versions import NO_EPSILON

FROZEN_EPSILON = 1e-5
# The first eight digits of the published file's sha256, which are also in its file name.
WITHOUT_EPSILON = {
    "fasterrcnn_resnet50_fpn": "258fb6c6",
    "keypointrcnn_resnet50_fpn": "fc266e95",
    "maskrcnn_resnet50_fpn": "bf2d0c1e",
    "retinanet_resnet50_fpn": "eeacb38b",
}


class Epsilon(NamedTuple):
    """The epsilon of the norms, and a note about it for the report."""

    value: Optional[float]  # None: each norm has its own
    frozen: bool
    note: Optional[str]


def epsilon_for(
    name: str, detector: nn.Module, state: State, file: str, asked: Optional[float]
) -> Epsilon:
    """Return the epsilon with which the weights in ``state`` were trained, as far as it is known.

    Args:
        name: of the detector in torchvision.
        detector: as torchvision builds it without weights.
        state: the checkpoint's weights.
        file: where they come from.
        asked: the user's value, which is used if it is not None.
    """
    frozen = not any(key.endswith(COUNT) for key in state)
    if asked is not None:
        return Epsilon(asked, frozen, f"the norms have epsilon {asked:g}, as --norm-eps has it")
    if not frozen:
        return Epsilon(None, frozen, None)
    said = "the checkpoint's norms are frozen, and have epsilon"
    published = WITHOUT_EPSILON.get(name)
    if published is None:
        return Epsilon(None, frozen, f"{said} {_own(detector)}, as torchvision builds the model")
    if sha256_of(Path(file)).startswith(published):
        return Epsilon(0.0, frozen, f"{said} 0, as torchvision has it for this published file")
    own = detector.state_dict()
    if any(key not in own for key in state):  # torchvision renames them, once it is loaded
        return Epsilon(
            0.0,
            frozen,
            f"{said} 0, as older releases of torchvision have it, which the names of the weights "
            f"are from; --norm-eps {FROZEN_EPSILON:g} sets what newer ones have",
        )
    return Epsilon(
        None,
        frozen,
        f"{said} {_own(detector)}, as torchvision builds the model; if the training began with "
        f"torchvision's published weights, it had epsilon 0: --norm-eps 0 (the smallest variance "
        f"is {_smallest_variance(state):.2g})",
    )


def set_epsilon(module: nn.Module, epsilon: Epsilon) -> None:
    """Set the epsilon of the norms in ``module``, and freeze them if asked to."""
    for name, child in module.named_children():
        if not isinstance(child, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            set_epsilon(child, epsilon)
            continue
        value = _own_of(child) if epsilon.value is None else epsilon.value
        if epsilon.frozen:
            setattr(module, name, _frozen(child.running_var.numel(), value).eval())
        else:
            child.eps = value or NO_EPSILON


def _frozen(features: int, epsilon: float) -> Any:
    frozen = FrozenBatchNorm2d(features)
    if not hasattr(frozen, "eps"):  # torchvision 0.5's adds nothing to the variance
        return nn.BatchNorm2d(features, eps=epsilon)
    frozen.eps = epsilon
    return frozen


def _own(detector: nn.Module) -> str:
    """Return the epsilons of a detector's norms as text."""
    values = {
        _own_of(each)
        for each in detector.modules()
        if isinstance(each, (nn.BatchNorm2d, FrozenBatchNorm2d))
    }
    return " and ".join(f"{value:g}" for value in sorted(values))


def _own_of(norm: Any) -> float:
    return float(getattr(norm, "eps", FROZEN_EPSILON))


def _smallest_variance(state: State) -> float:
    variances = [value for key, value in state.items() if key.endswith("running_var")]
    return min((float(torch.min(value)) for value in variances), default=1.0)
