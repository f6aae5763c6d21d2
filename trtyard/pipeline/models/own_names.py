"""Inputs that the user named: put into the order of ``forward``'s parameters."""

import inspect
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.flat_outputs import Wrapper
from trtyard.pipeline.models.own_inputs import OwnInputs


class CalledByName(Wrapper):
    """Wraps a module so that it gets its inputs as keyword arguments."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__(module)
        self.names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the module's output."""
        return self.module(**dict(zip(self.names, inputs)))


class _Parameter(NamedTuple):
    """A parameter of ``forward``."""

    name: str
    is_needed: bool
    by_position: bool = True
    by_name: bool = True


def taking_inputs(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return a module that takes inputs of these names, in this order, by position.

    It is another one than ``module`` if an optional parameter of ``forward`` is left out before a
    named one, or if a named one is keyword-only.
    """
    if not any(names):
        return module
    by_position = [one.name for one in _parameters(module) if one.by_position]
    if list(names) == by_position[: len(names)]:
        return module
    return CalledByName(module, names).train(module.training)


def in_order_of_forward(module: nn.Module, asked: OwnInputs, spec: str) -> OwnInputs:
    """Return the inputs in the order of ``forward``'s parameters; without names, as they are.

    Raises:
        UsageError: ``forward`` has no parameter of a name, or needs one that is not given.
    """
    names = [one.name for one in asked.inputs]
    if not any(names):
        return asked
    parameters = _parameters(module)
    for name in names:
        if name not in [one.name for one in parameters]:
            raise UsageError(
                f"--input: forward() of {spec} has no input '{name}'; it has: "
                f"{', '.join(one.name for one in parameters) or 'none with a name'}",
                "use one of these names, or leave the names out",
            )
    given = [one for one in parameters if one.name in names]
    _require_complete(given, parameters, spec)
    order = [names.index(one.name) for one in given]
    return asked._replace(
        inputs=[asked.inputs[index] for index in order],
        axes=tuple(asked.axes[index] for index in order),
    )


def _require_complete(
    given: Sequence[_Parameter], parameters: Sequence[_Parameter], spec: str
) -> None:
    """Raise UsageError if ``forward`` cannot be called with just the given parameters."""
    wanted = [one.name for one in parameters if one in given or one.is_needed]
    missing = [name for name in wanted if name not in [one.name for one in given]]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"--input: {', '.join(missing)} {are} missing, and forward() of {spec} needs "
            f"{'it' if len(missing) == 1 else 'them'}",
            f"give {', '.join(wanted)}, or wrap the model in one whose forward takes just these",
        )
    last = max(map(parameters.index, given))
    skipped = [one.name for one in parameters[:last] if one not in given]
    unnamed = [one.name for one in given if not one.by_name]
    if skipped and unnamed:
        raise UsageError(
            f"--input: forward() of {spec} takes {', '.join(unnamed)} by position only, so "
            f"{', '.join(skipped)} cannot be left out",
            f"give {', '.join(one.name for one in parameters[: last + 1])}",
        )


def require_free_names(
    names: Sequence[str], outputs: Sequence[str], module: nn.Module, spec: str
) -> None:
    """Raise UsageError for an input called like an output or a weight: a file has one name each."""
    weights = {name for name, _value in [*module.named_parameters(), *module.named_buffers()]}
    for name in names:
        if name in outputs or name in weights:
            what = "an output" if name in outputs else "a weight"
            raise UsageError(
                f"--input: {spec} also has {what} called '{name}', but names in an ONNX file are "
                "unique",
                "leave the names of the inputs out",
            )


def _parameters(module: nn.Module) -> List[_Parameter]:
    """Return the parameters of ``forward``, without ``*args`` and ``**kwargs``."""
    schema = getattr(module.forward, "schema", None)  # of a TorchScript module
    if schema is not None:
        return [
            _Parameter(one.name, not _has_default(one), not one.kwarg_only)
            for one in schema.arguments[1:]  # without self
        ]
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    return [
        _Parameter(name, one.default is inspect.Parameter.empty, *_WAYS[one.kind])
        for name, one in signature.parameters.items()
        if one.kind in _WAYS
    ]


# Whether a parameter can be given by position, and by name.
_WAYS: Dict[Any, Tuple[bool, bool]] = {
    inspect.Parameter.POSITIONAL_ONLY: (True, False),
    inspect.Parameter.POSITIONAL_OR_KEYWORD: (True, True),
    inspect.Parameter.KEYWORD_ONLY: (False, True),
}


def _has_default(argument: Any) -> bool:
    """Return whether a TorchScript argument has a default; old releases only have its value."""
    if hasattr(argument, "has_default_value"):
        return bool(argument.has_default_value())
    return argument.default_value is not None
