"""Options about precision: names, rows that have one, and combinations that do not fit."""

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.precisions import (
    PRECISIONS,
    file_names,
    has_precision,
    lacking_on,
    read_precisions,
    refuse_unfit_options,
)
from trtyard.core.request import ConversionRequest
from trtyard.matrix.reader import read_matrix
from trtyard.run.convert import job_of
from trtyard.system.uv import MATRIX_FILE

DATA = {"calibrate": "."}


def asked(**options):
    return job_of(ConversionRequest(model="alexnet", **options))


def test_a_list_of_precisions_is_read_without_spaces_and_repeats():
    assert read_precisions("precision", "fp32, FP16,fp16") == "fp32,fp16"
    with pytest.raises(UsageError, match="'fp61'; it has: fp32, fp16") as refused:
        read_precisions("precision", "fp32,fp61")
    assert refused.value.hint == "--precision fp16"


@pytest.mark.parametrize(
    ("row", "lacking"),
    [
        ("rtx-1.7", []),
        ("11.3", []),
        ("10.16", []),
        ("8.6", ["bf16", "fp8"]),
        ("7.0", ["bf16", "int8", "fp8"]),
    ],
)
def test_each_row_lacks_what_its_tensorrt_cannot_build(row, lacking):
    facts = read_matrix(MATRIX_FILE).row(row)
    assert lacking == [
        one for one in PRECISIONS if not has_precision(one, facts.flavour, facts.tensorrt)
    ]


def test_missing_precision_names_the_rows_that_have_it():
    with pytest.raises(
        UsageError, match=r"row 7\.0 \(TensorRT 7\.0\.0\.11\) has no int8"
    ) as refused:
        asked(row="7.0", precision="int8", calibrate=".")
    assert refused.value.hint == "the rows that have it: rtx-1.7, 11.3, 10.16, 8.6"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int8,fp8"}, "--precision int8,fp8 needs calibration data"),
        ({"precision": "fp16", **DATA}, "--calibrate is for int8 and fp8"),
        ({"calibration": "max"}, "--calibration is for int8 and fp8"),
        ({"keep_fp32": "Conv"}, "--keep-fp32 is for reduced precisions"),
        ({"precision": "int8", "calibrate": "/no such"}, "--calibrate /no such: file not found"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        asked(**options)


def test_calibration_folder_reaches_the_pipeline(tmp_path):
    job = asked(precision="int8", calibrate=str(tmp_path))
    assert tmp_path in job.inputs()
    assert job.placed(lambda path: f"/mnt{path}").calibrate == f"/mnt{tmp_path}"


def test_options_that_fit_pass():
    refuse_unfit_options("fp32", None, None, None)
    refuse_unfit_options("fp32,int8", "data", "max", "Conv")


def test_fp8_needs_a_newer_gpu_than_the_row():
    assert lacking_on("fp8", "8.9") is None
    assert lacking_on("fp8", "12.0") is None
    assert "8.9 or newer, this GPU has 8.6" in lacking_on("fp8", "8.6")
    assert lacking_on("int8", "7.5") is None


def test_fp32_keeps_its_file_names():
    assert file_names("fp32")["engine"] == "model.engine"
    assert file_names("int8")["onnx"] == "model.int8.onnx"
