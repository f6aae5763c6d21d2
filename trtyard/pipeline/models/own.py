"""A user's own model: ``package.module:callable`` or ``file.py:callable``."""

import shlex
from typing import List, Optional, Sequence, Tuple

import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.core.model_call import read_call
from trtyard.pipeline.dynamic.dimensions import Dynamic, Sizes, shape_at
from trtyard.pipeline.models.checkpoint import fit
from trtyard.pipeline.models.families.own import KIND
from trtyard.pipeline.models.family import not_for
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.models.own_detector import own_detector
from trtyard.pipeline.models.own_inputs import EXAMPLE, OwnInput, OwnInputs, parse_inputs
from trtyard.pipeline.models.own_names import in_order_of_forward, require_free_names, taking_inputs
from trtyard.pipeline.models.own_run import ready_to_run
from trtyard.pipeline.models.seeding import Seed
from trtyard.pipeline.models.static_detectors.forms import has_form
from trtyard.pipeline.models.user_code import call, find_callable, where
from trtyard.pipeline.models.weights import Choice

_MOST_NAMES = 3


def load_own(
    spec: str,
    choice: Choice,
    input_shape: Optional[str],
    image: Optional[str] = None,
    detections: Optional[str] = None,
) -> Model:
    """Return the model that the user's callable makes, with random inputs as requested.

    A detector of torchvision gets a picture; see ``own_detector``.

    Torch's global generator is seeded before the callable runs, so random initialisation gives the
    same weights each time. A weights file must fit the returned module exactly.

    Args:
        spec: ``package.module:callable`` or ``file.py:callable``, with or without arguments, such
            as ``nets.py:make_net(depth=18)``.
        choice: a seed, or a checkpoint.
        input_shape: such as "1x3x224x224", or several with commas between; see ``input_text``.
        image: path of a picture for a detector of torchvision; None for the default one.
        detections: of such a detector; see ``load_model``.

    Raises:
        UsageError: the module or callable does not exist, it raises or returns no nn.Module, the
            shapes are missing or unsupported, or the outputs are not tensors.
    """
    if input_shape is None:
        raise UsageError(
            f"{spec}: the shape of your model's input is needed",
            f"add {EXAMPLE} (several, and whole numbers: 1x3x224x224,1x16:int64:30522)",
        )
    asked = parse_inputs(input_shape)
    made_by = find_callable(spec)
    torch.manual_seed(choice.seed)
    if isinstance(made_by, nn.Module):
        _refuse_arguments(spec)
        module = made_by
    else:
        module = call(made_by, spec)
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"{spec} returned {type(module).__name__}, not a torch.nn.Module",
            "return the module itself",
        )
    if has_form(module):
        return own_detector(_prepared(module, spec), spec, choice, asked, image, detections)
    for word, value in (("--image", image), ("--detections", detections)):
        if value is not None:
            raise not_for(word, spec, "of your own models it is for detectors of torchvision")
    return own_model(module, spec, choice, asked)


def own_model(
    module: nn.Module,
    spec: str,
    choice: Choice,
    asked: OwnInputs,
    weights: Optional[Weights] = None,
) -> Model:
    """Return the model for a module that the user's or a package's code made.

    Args:
        module: the module, with weights of its own.
        spec: the model as the user typed it.
        choice: a seed, or a checkpoint.
        asked: the inputs.
        weights: where those of the module come from, if not from its random initialisation.

    Raises:
        UsageError: see ``load_own``.
    """
    module = _prepared(module, spec)
    notes: Tuple[str, ...] = ()
    if choice.file is not None:
        state, notes = choice.read()
        fit(module, state, choice.file)
    if choice.file is not None:
        weights = choice.facts(module)
    elif weights is None:
        source = f"the model's own, torch seed {choice.seed}"
        weights = choice.facts(module)._replace(source=source)
    asked = in_order_of_forward(module, asked, spec)
    names = tuple(one.name for one in asked.inputs)
    ready = ready_to_run(taking_inputs(module, names), asked.inputs, choice.seed, spec)
    if any(names):
        require_free_names(names, ready.output_names, module, spec)
    else:
        names = _input_names(len(ready.inputs), ready.output_names)
    return Model(
        name=spec,
        kind=KIND.name,
        module=ready.module,
        input_names=names,
        output_names=ready.output_names,
        inputs=ready.inputs,
        weights=weights,
        picture=None,
        scale=(1.0, 1.0),
        exporter=_exporter_for(module),
        notes=(*notes, *ready.notes),
        dynamic=_dynamic(asked, ready.given, choice.seed) if asked.vary else None,
    )


def _refuse_arguments(spec: str) -> None:
    """Raise UsageError for arguments of a module object, which is not called."""
    asked = read_call(spec)
    if asked.has_arguments:
        raise UsageError(
            f"{spec}: {asked.name} is a module object, which takes no arguments",
            "name its class or a function, or leave the arguments out: "
            f"--model {shlex.quote(f'{asked.place}:{asked.name}')}",
        )


def _dynamic(asked: OwnInputs, given: Sequence[OwnInput], first_seed: int) -> Dynamic:
    def draw(sizes: Sizes, seed: int) -> Tuple[torch.Tensor, ...]:
        stream = Seed(first_seed + seed)
        return tuple(
            one._replace(shape=shape_at(one.shape, axes, sizes)).draw(stream)
            for one, axes in zip(given, asked.axes)
        )

    return Dynamic(asked.axes, asked.profiles, draw)


def _exporter_for(module: nn.Module) -> Optional[str]:
    """Return the only exporter that supports the module; None if the row's own does."""
    scripted = any(isinstance(each, torch.jit.ScriptModule) for each in module.modules())
    return "torchscript" if scripted else None


def _prepared(module: nn.Module, spec: str) -> nn.Module:
    """Return the module on the CPU and in eval mode, with weights that have values."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    empty = [name for name, value in tensors if value.device.type == "meta"]
    if empty:
        raise UsageError(
            f"{spec}: {_some(empty)} on the meta device, with a shape and no values",
            "make the module on the CPU; or module.to_empty(device='cpu') in your callable, which "
            "then loads the weights itself",
        )
    lazy = [name for name, value in tensors if hasattr(value, "materialize")]
    if lazy:
        raise UsageError(
            f"{spec}: {_some(lazy)} of a lazy layer that has seen no input, and has no shape yet",
            "run the module once in your callable, before it is returned",
        )
    try:
        return module.cpu().eval()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(
            f"{spec} cannot be put on the CPU and into eval mode: {where(error)}",
            "fix this error in the model first",
        ) from error


def _some(names: List[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _input_names(count: int, taken: Sequence[str]) -> Tuple[str, ...]:
    """Return input names that no output has: inputs and outputs of a file share one namespace."""
    for name in ("input", "model_input"):
        names = (name,) if count == 1 else tuple(f"{name}_{index}" for index in range(count))
        if not set(names) & set(taken):
            break
    return names
