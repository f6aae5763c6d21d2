"""What the host adds to the facts of a failure: cause, rows that take the model, fix."""

import pytest

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.core.later_opset import later_opset_log
from trtyard.core.report import (
    FAILED,
    NOT_RUN,
    PASSED,
    STAGES,
    ExporterWarning,
    Report,
    Stage,
    Symptom,
)
from trtyard.known_failures import named
from trtyard.known_failures.advice import advised, with_advice
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.system.uv import ROOT

LOGS = ROOT / "tests" / "host" / "logs"
TOPK = "K exceeds the maximum value allowed (3840)."


def message(log, rows):
    return with_advice(ConversionError("failed", log=log), rows).message


def test_an_error_names_the_rows_that_take_the_model():
    log = "\n".join((LOGS / "nonzero.log").read_text().splitlines()[4:])
    rows = matrix_toolchains()
    assert "supported by: TensorRT 8.5 and newer" in message(log, ())
    assert (
        "supported by: row 11.3, 10.16, 8.6 (TensorRT 8.5 and newer, not TensorRT for RTX)"
        in message(log, rows)
    )
    pascal = message("Internal Error (Unsupported SM: 0x601)", rows)
    assert "supported by: row 7.0 (engines run on compute capability 6.1)" in pascal
    assert "supported by" not in message("K exceeds the maximum value allowed", rows)


@pytest.mark.parametrize("kind", [ConversionError, EnvironmentLacksError])
def test_error_gets_cause_and_fix_and_keeps_its_class(kind):
    known = named("topk-limit")
    found = with_advice(kind("failed", "a general hint", TOPK))
    assert type(found) is kind
    assert str(found) == f"failed\n  why: {known.cause}\n  {known.hint}"


@pytest.mark.parametrize(
    "log",
    [None, "", "it broke", "TracerWarning: Converting a tensor to a Python boolean"],
)
def test_error_without_a_known_cause_is_unchanged(log):
    error = ConversionError("failed", "do this", log)
    assert with_advice(error) is error


def test_failed_stage_gets_cause_and_fix():
    known = named("topk-limit")
    stages = [Stage(name, PASSED, 1.0) for name in STAGES]
    stages[4] = Stage("engine", FAILED, 1.0, "refused", log=TOPK)
    stages[5] = Stage("tensorrt", NOT_RUN, reason="no GPU", hint="take one", log="it broke")
    found = advised(Report("rtx-1.7", "net", "fp32", "host", tuple(stages)), ()).stages
    assert (found[4].reason, found[4].hint) == (f"refused\n  why: {known.cause}", known.hint)
    assert [*found[:4], found[5]] == [*stages[:4], stages[5]]


def test_warnings_and_symptoms_are_appended_as_notes():
    known = named("results-vary")
    stages = tuple(Stage(name, PASSED, 1.0) for name in STAGES)
    report = Report(
        *("rtx-1.7", "net", "fp32", "host", stages),
        notes=("its own",),
        warnings=(
            ExporterWarning("this form will be removed", of_tracer=False),
            ExporterWarning("a value was frozen", of_tracer=True),
            ExporterWarning(
                "ROIAlign with aligned=True is not supported in opset 15", of_tracer=False
            ),
        ),
        symptoms=(Symptom("results-vary", "it varies"), Symptom("of-a-later-release", "it broke")),
    )
    assert advised(report, ()).notes == (
        "its own",
        "a value was frozen",
        "ROIAlign with aligned=True is not supported in opset 15",
        f"it varies: {known.cause}. {known.hint} (results-vary)",
        "it broke (of-a-later-release)",
    )


def test_later_opset_advice_names_a_row_with_the_op():
    rows = matrix_toolchains()
    log = later_opset_log("DeformConv", 19, 18)
    here = with_advice(ConversionError("failed", log=log), rows, "11.3")
    assert here.hint == "--opset 19, or replace it at that line by ops that opset 18 has"
    rtx = with_advice(ConversionError("failed", log=log), rows, "rtx-1.7")
    assert rtx.message.endswith("; the TensorRT of row rtx-1.7 does not have it at any opset")
    assert rtx.hint == f"--trt 11.3 --opset 19, or {here.hint.partition(', or ')[2]}"
