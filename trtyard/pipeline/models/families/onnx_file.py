"""A user's ONNX file: ONNX Runtime is the reference for TensorRT."""

from typing import TYPE_CHECKING, Sequence

from trtyard.core.onnx_files import ENDING
from trtyard.pipeline.models.family import Family, Options
from trtyard.pipeline.parity.kind import ANY, Kind
from trtyard.pipeline.parity.tolerance import VALUES

if TYPE_CHECKING:
    from trtyard.pipeline.models.model import Model

KIND = Kind("onnx", {ANY: VALUES}, may_hold_float16=True)


def names() -> Sequence[str]:
    """Return no names: ONNX files are recognized by their ending."""
    return ()


def load(spec: str, options: Options) -> "Model":
    """Return the model; see ``load_onnx``."""
    from trtyard.pipeline.models.onnx_file import load_onnx

    return load_onnx(spec, options.image, options.input_shape)


FAMILY = Family(
    KIND,
    ("--image", "--input"),
    "an ONNX file takes --input and --image",
    load,
    names,
    ending=ENDING,
)
