"""Run a user's own module for the first time, to find its types and outputs."""

from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.flat_outputs import with_named_outputs
from trtyard.pipeline.models.one_run import buffers_kept, run_once
from trtyard.pipeline.models.own_inputs import OwnInput
from trtyard.pipeline.models.own_types import (
    Conversion,
    name_of,
    needed,
    to_float32,
    types_in,
    why_needed,
)
from trtyard.pipeline.models.seeding import Seed
from trtyard.pipeline.models.user_code import ENDS, streams_kept, where

_HALVES = (torch.float16, torch.bfloat16)


class Ready(NamedTuple):
    """A module that runs and returns a tuple of tensors."""

    module: nn.Module
    inputs: Tuple[torch.Tensor, ...]
    output_names: Tuple[str, ...]
    notes: Tuple[str, ...]
    given: Tuple[OwnInput, ...]  # the inputs, in the types that it runs with


class _Trial(NamedTuple):
    """A combination of types to run the module with."""

    input_type: torch.dtype  # of the floating-point inputs without a type in --input
    to_float32: Tuple[torch.dtype, ...]  # of the module
    why: str


def ready_to_run(module: nn.Module, asked: Sequence[OwnInput], seed: int, spec: str) -> Ready:
    """Run the module once, with its own types if possible, and return it ready to run.

    Types that not every runtime supports are first converted to float32, if the module then runs.

    Args:
        module: in eval mode, on the CPU.
        asked: its inputs.
        seed: of the inputs' values.
        spec: the model as the user typed it, for errors.

    Raises:
        UsageError: it fails with all types, or its outputs cannot be compared.
    """
    first: Optional[UsageError] = None
    last: Optional[UsageError] = None
    for trial in _trials(module, asked):
        conversion = to_float32(module, trial.to_float32)
        given = [each._replace(dtype=_type_of(each, trial)) for each in asked]
        draw = Seed(seed)
        inputs = tuple(each.draw(draw) for each in given)
        try:
            names, flat = _run(module, inputs, spec, given)
        except UsageError as error:
            conversion.undo()
            first, last = first or error, error
            continue
        notes = tuple(_notes(spec, given, asked, conversion, trial.why))
        return Ready(flat, inputs, names, notes, tuple(given))
    # With one type, a wrong shape shows once the types match. Otherwise the first trial has the
    # user's types.
    failure = last if len(types_in(module)) == 1 else first
    raise failure or UsageError(f"{spec} cannot be run")


def _trials(module: nn.Module, asked: Sequence[OwnInput]) -> Iterator[_Trial]:
    """Yield the types to try, starting with the smallest change to the module."""
    types = types_in(module)
    float_types = {each.dtype for each in asked if each.is_typed and each.dtype.is_floating_point}
    unavoidable = needed(types)
    if float_types == {torch.float32} and types and set(types) <= set(_HALVES):
        # The module has no float32, but the inputs do: it casts them itself, or must be converted
        # to float32 as well.
        yield _Trial(torch.float32, unavoidable, why_needed(unavoidable))
        yield _Trial(torch.float32, types, "--input asks for float32")
        return
    ways = list(dict.fromkeys([unavoidable, ()]))
    for way in ways:
        yield _Trial(torch.float32, way, why_needed(way))
        if torch.float16 in types and any(_is_open(each) for each in asked):
            yield _Trial(torch.float16, way, why_needed(way))
    if any(each != torch.float32 for each in types) and not float_types:
        yield _Trial(torch.float32, types, "it does not run in its own types")


def _is_open(one: OwnInput) -> bool:
    """Return whether the input is floating and the user gave no type."""
    return one.dtype.is_floating_point and not one.is_typed


def _type_of(one: OwnInput, trial: _Trial) -> torch.dtype:
    return trial.input_type if _is_open(one) else one.dtype


def _run(
    module: nn.Module, inputs: Tuple[torch.Tensor, ...], spec: str, given: Sequence[OwnInput]
) -> Tuple[Tuple[str, ...], nn.Module]:
    """Run the module once, and return its output names and a module that returns only tensors."""
    try:
        with buffers_kept(module), streams_kept(spec):
            outputs: Any = run_once(module, inputs)
    except UsageError:  # of streams_kept
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        hint = (
            "check --input against your model's forward(): x between sizes, commas between inputs, "
            "1x16:int64:100 for whole numbers below 100, 1x16:bool for true and false, "
            "1x16:float16 where the model takes float16"
        )
        raise UsageError(
            f"{spec} fails with these inputs ({', '.join(map(str, given))}): {where(error)}",
            ENDS if isinstance(error, SystemExit) else hint,
        ) from error
    return with_named_outputs(module, outputs, spec)


def _notes(
    spec: str,
    given: Sequence[OwnInput],
    asked: Sequence[OwnInput],
    conversion: Conversion,
    why: str,
) -> Iterator[str]:
    if conversion.types:
        names = " and ".join(map(name_of, conversion.types))
        yield f"the {names} weights of {spec} were converted to float32: {why}"
    changed: List[torch.dtype] = [
        new.dtype for new, old in zip(given, asked) if new.dtype != old.dtype
    ]
    if changed:
        yield (
            f"the inputs are {name_of(changed[0])}, as the weights of {spec} are; "
            "add :float32 to --input for float32"
        )
