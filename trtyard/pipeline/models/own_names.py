"""Inputs that the user named: put into the order of ``forward``'s parameters."""

import inspect
from typing import List, Sequence

from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.own_inputs import OwnInputs


def in_order_of_forward(module: nn.Module, asked: OwnInputs, spec: str) -> OwnInputs:
    """Return the inputs as ``forward`` takes them by position; unnamed ones are left as they are.

    Raises:
        UsageError: ``forward`` has no parameter of a name, or needs one that is not given.
    """
    names = [one.name for one in asked.inputs]
    if not any(names):
        return asked
    parameters = _parameters(module)
    for name in names:
        if name not in parameters:
            raise UsageError(
                f"--input: forward() of {spec} has no input '{name}'; it has: "
                f"{', '.join(parameters) or 'none with a name'}",
                "use one of these names, or leave the names out",
            )
    wanted = parameters[: len(names)]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UsageError(
            f"--input: {', '.join(missing)} is missing, which forward() of {spec} takes first",
            f"give {', '.join(wanted)}, or wrap the model in one whose forward takes just these",
        )
    order = [names.index(name) for name in wanted]
    return asked._replace(
        inputs=[asked.inputs[index] for index in order],
        axes=tuple(asked.axes[index] for index in order),
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
                f"--input: {spec} has {what} called '{name}' too, and an ONNX file has each name "
                "once",
                "leave the names of the inputs out",
            )


def _parameters(module: nn.Module) -> List[str]:
    """Return the names of the parameters that ``forward`` takes by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    schema = getattr(module.forward, "schema", None)  # of a TorchScript module
    if schema is not None:
        return [one.name for one in schema.arguments][1:]  # without self
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    return [name for name, one in signature.parameters.items() if one.kind in kinds]
