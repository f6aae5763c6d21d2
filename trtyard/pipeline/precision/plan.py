"""What is asked for with --precision, checked against row and model before anything runs."""

from pathlib import Path
from typing import List, NamedTuple, Optional

import torch

from trtyard.core.errors import UsageError
from trtyard.core.precisions import (
    BF16,
    CALIBRATED,
    DEFAULT_METHOD,
    FP16,
    FP32,
    reduced,
    refuse_lacking,
    refuse_unfit_options,
)
from trtyard.core.request import ConversionRequest
from trtyard.core.toolchains import RTX, release
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.own_types import precision_of, types_in
from trtyard.pipeline.precision.calibration_data import CalibrationData, read_calibration_data
from trtyard.pipeline.row import Row

_FIRST_WITH_TYPED_FILES = (8, 0)


class Plan(NamedTuple):
    """The reduced precisions of one conversion."""

    asked: str  # the value of --precision
    names: List[str]  # without fp32
    data: Optional[CalibrationData]
    method: str
    keep: Optional[str]  # the value of --keep-fp32
    cache: Optional[Path]  # folder of the calibration cache

    @property
    def builds_fp32(self) -> bool:
        """Whether an engine in fp32 is asked for too."""
        return FP32 in self.asked.split(",")


def plan_of(row: Row, request: ConversionRequest, model: Model, cache: Optional[Path]) -> Plan:
    """Return the plan, with the calibration data read.

    Raises:
        UsageError: the row lacks a precision, the options do not fit, the model is in half
            precision already, or the calibration data cannot be taken.
    """
    names = reduced(request.precision)
    refuse_unfit_options(
        request.precision, request.calibrate, request.calibration, request.keep_fp32
    )
    refuse_lacking(names, row.name, row.flavour, row.tensorrt)
    if request.keep_fp32 is not None and is_by_builder(row):
        raise UsageError(
            f"--keep-fp32: TensorRT {row.tensorrt} chooses itself which layers are in fp16",
            "leave it out",
        )
    _refuse_half(model, names)
    data = None
    if request.calibrate is not None and any(name in CALIBRATED for name in names):
        data = read_calibration_data(request.calibrate, model)
    return Plan(
        request.precision,
        names,
        data,
        request.calibration or DEFAULT_METHOD,
        request.keep_fp32,
        cache,
    )


def is_by_builder(row: Row) -> bool:
    """Return whether the builder makes fp16 of model.onnx itself, without a file of its own.

    Before 8.0 its parser has no use for float16 tensors, and the row's onnxruntime no converter.
    """
    return row.flavour != RTX and tuple(release(row.tensorrt)) < _FIRST_WITH_TYPED_FILES


def _refuse_half(model: Model, names: List[str]) -> None:
    if model.file is not None:
        if names and any(each in model.file.precision for each in (FP16, BF16)):
            raise UsageError(
                f"{model.name} has {model.file.precision} weights, and --precision "
                f"{','.join(names)} starts from fp32",
                "export it in fp32, or leave out --precision: what is in fp16 stays so",
            )
        return
    types = types_in(model.module)
    if torch.float16 not in types or not names:
        return
    if names == [FP16] and any(each != torch.float16 for each in types):
        return  # the rest of it can be made float16
    raise UsageError(
        f"{model.name} has {precision_of(model.module)} weights, and --precision "
        f"{','.join(names)} starts from fp32",
        "return the model without .half(), or leave out --precision: what is in fp16 stays so",
    )
