"""The model at another batch size: as it is, from its range, or converted again."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch

from trtyard.core.known_models import is_known
from trtyard.core.report import OnnxFile
from trtyard.core.request import BenchRequest
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.given_file import read_given
from trtyard.pipeline.stages import NotRunError


class Batched(NamedTuple):
    """A model with inputs of the batch size."""

    model: Model
    is_in_files: bool  # model.onnx and the engine take this batch size


def batch_of(model: Model) -> int:
    """Return the batch size of this run's inputs: the first dimension of the first one."""
    return int(model.inputs[0].shape[0]) if model.inputs and model.inputs[0].dim() else 1


def arrays_of(model: Model) -> Dict[str, np.ndarray]:
    """Return this run's inputs by name."""
    return {name: value.numpy() for name, value in zip(model.input_names, model.inputs)}


def at_batch(model: Model, request: BenchRequest, batch: int) -> Batched:
    """Return the model with inputs of that batch size.

    Raises:
        NotRunError: it does not take that batch size.
        UsageError: the same, in the words of the model's family.
    """
    own = batch_of(model)
    if batch == own:
        return Batched(model, is_in_files=True)
    if not model.inputs or not model.inputs[0].dim():
        raise NotRunError("the first input has no dimension, so there is no batch")
    if model.dynamic is not None:
        return Batched(_in_range(model, batch), is_in_files=True)
    if kind_of(model.kind).has_row_each:
        raise NotRunError(f"{model.name} takes one picture at a time")
    if is_known(request.model):
        shape = "x".join(map(str, (batch, *model.inputs[0].shape[1:])))
        return Batched(_loaded(request, shape), is_in_files=False)
    repeated = tuple(_repeated(value, own, batch) for value in model.inputs)
    file = model.file
    if file is not None:
        _refuse_fixed(file.facts, own)
        file = file._replace(content=read_given(str(file.path))[1])  # the first was changed
    return Batched(model._replace(inputs=repeated, file=file), is_in_files=False)


def refuse_same_shapes(before: Any, after: Any, own: int, batch: int) -> None:
    """Raise NotRunError if no output depends on the batch size: the model computes no batch."""
    if before and [one.shape for one in before.values()] == [one.shape for one in after.values()]:
        raise NotRunError(
            f"the outputs have the same shapes at batch {batch} as at batch {own}: the model "
            "computes no batch"
        )


def _in_range(model: Model, batch: int) -> Model:
    dynamic = model.dynamic
    name: Optional[str] = None if dynamic is None else dynamic.axes[0].get(0)
    if dynamic is None or name is None:
        raise NotRunError(
            f"--input fixes the batch to {batch_of(model)} and has ranges for other sizes; give "
            "the batch a range too"
        )
    for profile in dynamic.profiles:
        if profile[name].least <= batch <= profile[name].most:
            sizes = {each: profile[each].usual for each in dynamic.names}
            sizes[name] = batch
            return model._replace(inputs=tuple(dynamic.draw(sizes, 0)))
    least, most = dynamic.limits(name)
    raise NotRunError(f"--input has the range {least}..{most} for the batch")


def _loaded(request: BenchRequest, shape: str) -> Model:
    return load_model(
        request.model,
        weights=request.weights,
        image=request.image,
        input_shape=shape,
        top_n=request.top_n,
        norm_epsilon=request.norm_eps,
    )


def _repeated(value: torch.Tensor, own: int, batch: int) -> torch.Tensor:
    """Return an input with its items repeated; one without the batch as it is."""
    if not value.dim() or value.shape[0] != own:
        return value
    return value[torch.arange(batch) % own].clone()


def _refuse_fixed(facts: OnnxFile, own: int) -> None:
    """Raise NotRunError if the file declares the batch as a number."""
    shapes: List[Tuple[str, ...]] = [each.shape for each in facts.inputs if each.shape]
    if shapes and shapes[0][0].isdigit():
        raise NotRunError(f"the file has a fixed batch of {own}; export it with an open one")
