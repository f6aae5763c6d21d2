"""A user's ONNX file as a model."""

from typing import Any, Callable, Iterator, Optional, Sequence

import onnx
import torch

from trtyard.core.errors import UsageError
from trtyard.core.files import sha256_of
from trtyard.core.report import FILL, Preprocess
from trtyard.pipeline.models.classifier import DEVIATIONS, MEANS
from trtyard.pipeline.models.families.onnx_file import KIND
from trtyard.pipeline.models.model import GivenFile, Model, Weights
from trtyard.pipeline.models.onnx_inputs import (
    Wanted,
    is_values_file,
    make_inputs,
    of_picture,
    takes_picture,
    wanted_inputs,
)
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.onnx_model.given_file import (
    facts_of,
    inputs_of,
    precision_in,
    read_given,
    type_name,
)
from trtyard.pipeline.onnx_model.order import is_in_order

# Types for which --input takes the number of values, and a number to propose.
_WITH_NUMBER = {torch.int64: 30522, torch.int32: 30522, torch.uint8: 256}
# Types of outputs that can be compared.
_COMPARABLE = (
    *("float32", "float16", "float64", "bool", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8"),
)


def load_onnx(spec: str, image: Optional[str], input_text: Optional[str]) -> Model:
    """Return the model in an ONNX file, with this run's inputs.

    Args:
        spec: the path of the file.
        image: path of a picture, for a file with one input for pictures.
        input_text: the value of --input, see ``make_inputs``.

    Raises:
        UsageError: the file cannot be taken, or the inputs do not fit it.
    """
    file, model = read_given(spec)
    _check_outputs(model, spec)
    wanted = wanted_inputs(inputs_of(model), spec)
    picture = None
    if image is not None:
        if len(wanted) != 1 or not takes_picture(wanted[0]):
            raise UsageError(
                f"--image is not for {spec}: it needs one input float32 [N, 3, height, width], and "
                f"the file has {'; '.join(map(str, wanted)) or 'none'}",
                "give the values: --input FILE.npz",
            )
        picture = read_picture(image)
    made = make_inputs(wanted, input_text, spec, picture)
    return Model(
        name=spec,
        kind=KIND.name,
        module=torch.nn.Module(),
        input_names=tuple(one.name for one in wanted),
        output_names=tuple(value.name for value in model.graph.output),
        inputs=made.tensors,
        weights=Weights(spec, sha256_of(file)),
        picture=picture,
        scale=(1.0, 1.0),
        notes=(*_notes_on(model, spec), *_notes(wanted, made.tensors, image, input_text)),
        file=GivenFile(file, model, facts_of(model), precision_in(model)),
        dynamic=made.dynamic,
        prepare=_preparing(wanted, made.tensors),
        preprocess=None if picture is None else Preprocess(FILL, "RGB", 255.0, MEANS, DEVIATIONS),
    )


def _preparing(
    wanted: Sequence[Wanted], inputs: Sequence[torch.Tensor]
) -> Optional[Callable[[Any], torch.Tensor]]:
    """Return what makes the one input of a picture; None if the file takes no pictures."""
    if len(wanted) != 1 or not takes_picture(wanted[0]):
        return None
    shape, dtype = tuple(inputs[0].shape), wanted[0].dtype
    return lambda rgb: of_picture(rgb, shape).to(dtype)


def _check_outputs(model: onnx.ModelProto, spec: str) -> None:
    for value in model.graph.output:
        if type_name(value) not in _COMPARABLE:
            raise UsageError(
                f"{spec}: output {value.name} has type {type_name(value)}, which not every runtime "
                "returns",
                "export the model with outputs that are tensors of numbers, such as float32",
            )


def _notes_on(model: onnx.ModelProto, spec: str) -> Iterator[str]:
    if not is_in_order(model.graph):
        yield (
            f"the nodes of {spec} are not in topological order, which ONNX demands; in model.onnx "
            "they are"
        )


def _notes(
    wanted: Sequence[Wanted],
    inputs: Sequence[torch.Tensor],
    image: Optional[str],
    text: Optional[str],
) -> Iterator[str]:
    if image is not None:
        height, width = inputs[0].shape[-2:]
        yield (
            f"the picture is resized to {height}x{width} and normalized as for ImageNet; for other "
            "values give --input FILE.npy"
        )
    elif not is_values_file(text):
        for one, value in zip(wanted, inputs):
            if one.dtype in _WITH_NUMBER and value.numel() and bool((value < 2).all()):
                shape = "x".join(map(str, value.shape)) or "1"
                kind = str(one.dtype).replace("torch.", "")
                yield (
                    f"the random values of {one.name} are 0 and 1; for others give their number: "
                    f"--input {one.name}={shape}:{kind}:{_WITH_NUMBER[one.dtype]}"
                )
