"""Classifiers of the package timm, with the sizes and colours of each model's own configuration."""

import difflib
import shlex
from typing import Any, List, Mapping, Optional

import torch

from trtyard.core.errors import UsageError
from trtyard.core.model_call import ModelCall, read_call
from trtyard.core.report import BICUBIC, BILINEAR
from trtyard.core.short_forms import TIMM
from trtyard.pipeline.models.classifier import MAXIMUM_SIZE, classifier_of, image_inputs
from trtyard.pipeline.models.image_inputs import ImageInputs
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.packaged import package_of
from trtyard.pipeline.models.sides import require_side
from trtyard.pipeline.models.user_code import where
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.torch_support.published import Look

_CHANNELS = 3
_MOST_NAMES = 3


def load_timm(
    spec: str,
    choice: Choice,
    image: Optional[str],
    size: Optional[int],
    input_shape: Optional[str] = None,
) -> Model:
    """Return the model that ``timm.create_model`` makes, without downloaded weights.

    Args:
        spec: such as ``timm:resnet18`` or ``timm:resnet18(num_classes=10)``.
        choice: seeded weights, or a state dict of timm's.
        image: path of a picture; None for the default one.
        size: side of the square that is cropped from the picture; None for the model's own.
        input_shape: such as "1..8x3x224x224", in place of ``size``.

    Raises:
        UsageError: timm has no such model, or it is not a classifier of pictures.
        EnvironmentLacksError: timm is not installed.
    """
    call = read_call(spec)
    module = _made(package_of(spec), call, spec)
    # Releases before 0.8 call it default_cfg.
    own = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    channels, height, width = own.get("input_size") or (_CHANNELS, 224, 224)
    if call.keyword.get("in_chans", channels) != _CHANNELS:
        raise UsageError(
            f"{spec} does not take pictures of {_CHANNELS} channels",
            "write a function that makes the model: --model nets.py:make_net --with timm --input "
            f"1x{call.keyword.get('in_chans', channels)}x{height}x{width}",
        )
    side = call.keyword.get("img_size")
    if isinstance(side, int):
        height = width = side
    asked = image_inputs(spec, size, input_shape, width)
    if size is None and input_shape is None:
        asked = ImageInputs(1, height, width)
    for each in asked.sides:
        require_side(spec, each, 1, MAXIMUM_SIZE, width, input_shape)
    _require_logits(module, asked, spec)
    look = _look(own, max(asked.height, asked.width))
    return classifier_of(spec, lambda: module, choice, image, asked, look, width)


def _made(timm: Any, call: ModelCall, spec: str) -> torch.nn.Module:
    if call.place != TIMM:
        raise UsageError(
            f"--model {spec}: a name of timm has no colon, and nothing is downloaded",
            "list the names: python -c 'import timm; print(timm.list_models())'",
        )
    if call.positional or "pretrained" in call.keyword:
        raise UsageError(
            f"--model {spec}: give arguments of timm.create_model by name, without pretrained",
            "--model 'timm:resnet18(num_classes=10)'; for weights: --weights FILE",
        )
    try:
        module: torch.nn.Module = timm.create_model(call.name, pretrained=False, **call.keyword)
    except Exception as error:  # the package's code may raise anything
        known: List[str] = timm.list_models()
        if call.name.partition(".")[0] not in known:
            near = difflib.get_close_matches(call.name, known, n=_MOST_NAMES, cutoff=0.5)
            wanted = f"{TIMM}:{near[0]}{call.typed}" if near else f"{TIMM}:resnet18"
            raise UsageError(
                f"timm {timm.__version__} has no model '{call.name}'"
                + (f"; similar names: {', '.join(near)}" if near else ""),
                f"--model {shlex.quote(wanted)}",
            ) from error
        raise UsageError(f"{spec} cannot be made: {where(error)}", "check the arguments") from error
    return module.eval()


def _look(own: Mapping[str, Any], side: int) -> Look:
    """Return how timm's own evaluation prepares pictures for a model of this configuration."""
    share = float(own.get("crop_pct") or 0.875)  # timm's default
    return Look(
        max(side, int(side / share)),
        side,
        tuple(map(float, own.get("mean") or (0.485, 0.456, 0.406))),
        tuple(map(float, own.get("std") or (0.229, 0.224, 0.225))),
        BICUBIC if own.get("interpolation") == BICUBIC else BILINEAR,
    )


def _require_logits(module: torch.nn.Module, asked: ImageInputs, spec: str) -> None:
    """Raise UsageError if the module returns anything but [batch, classes]."""
    try:
        with torch.no_grad():
            found = module(torch.zeros(1, _CHANNELS, asked.height, asked.width))
    except (RuntimeError, ValueError, AssertionError):
        return  # it does not take this size: ``classifier_of`` reports that
    if not isinstance(found, torch.Tensor) or found.dim() != 2:
        what = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UsageError(
            f"{spec} returns {what}, not logits [batch, classes]",
            "write a function that makes the model: --model nets.py:make_net --with timm --input "
            "1x3x224x224",
        )
