"""The table over all precisions: on the page, on the terminal, in JUnit and the verdict."""

import json
import xml.etree.ElementTree as Tree

import pytest
from report_examples import HOSTILE, NO_DEVICE, a_classifier_report, passed_stages, verdict

from trtyard.core.report import (
    Agreement,
    Calibration,
    Precision,
    Stage,
    ValueAccuracy,
    check_report,
    exit_code,
)
from trtyard.core.report_json import report_value
from trtyard.report.console import WIDTH, console_table
from trtyard.report.junit import junit_text
from trtyard.report.page import page
from trtyard.report.precision_section import precision_status
from trtyard.report.reading import read_report


def xml_of(whole):
    return Tree.fromstring(junit_text(whole))  # noqa: S314 - our own


def stages(**others):
    found = [
        Stage("rewrite", "passed", 1.0),
        Stage("onnxruntime", "passed", 2.0),
        Stage("engine", "passed", 3.0),
        Stage("tensorrt", "not-run", reason=NO_DEVICE),
    ]
    return tuple(others.get(stage.name, stage) for stage in found)


def value(error=0.01, passed=True, problem=None):
    return ValueAccuracy(
        "onnxruntime", "logits", error, 0.9999, 0.1, 0.25, 0.97, passed, 9, problem
    )


def int8(**changes):
    one = Precision(
        "int8",
        stages(rewrite=Stage("rewrite", "passed", 1.0, note="took its ranges from data, cached")),
        "model.int8.onnx",
        102_000_000,
        "model.int8.engine",
        32_000_000,
        0.5,
        (value(),),
        (Agreement("onnxruntime", "top-1", 0.9375, 16, "held-out", None, True),),
        54,
        {"--keep-fp32": 2},
        Calibration("data", "0" * 64, 16, 16, "percentile", True),
        "measured",
    )
    return one._replace(**changes)


def report(*precisions):
    fp32 = Precision("fp32", passed_stages(), "model.onnx", 102_000_000, None, None, 0.6)
    return a_classifier_report(precision="fp32,int8", precisions=(fp32, *precisions))


def test_a_report_with_precisions_is_read_as_it_was_written(tmp_path):
    whole = report(int8())
    check_report(whole)
    (tmp_path / "report.json").write_text(json.dumps(report_value(whole)))
    assert read_report(tmp_path) == whole


def test_the_terminal_shows_each_precision_and_its_notes():
    text = console_table(report(int8()))
    assert "int8       passed   0.01        0.999900  102.0 MB  32.0 MB   0.50 s" in text
    assert "top-1 93.8 % of 16 (held-out data)" in text
    assert "took its ranges from data, cached" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_page_shows_budget_and_what_stays_in_fp32():
    text = page(report(int8()))
    assert "54 nodes reduced; in fp32: 2 --keep-fp32" in text
    assert "relative error up to 0.25" in text
    assert "Precisions" not in page(a_classifier_report())


def test_a_missed_budget_is_exit_code_1_and_the_headline_says_so():
    whole = report(int8(values=(value(0.5, False),)))
    code, text = verdict(whole)
    assert code == exit_code(whole) == 1
    assert "Int8 misses its budget of accuracy." in text
    assert "FAILED" in console_table(whole)
    cases = {case.get("name"): case for case in xml_of(whole).iter("testcase")}
    assert cases["int8 onnxruntime logits"].find("failure") is not None
    assert cases["int8: tensorrt"].find("skipped") is not None


def test_a_missed_share_is_a_missed_budget_too():
    share = Agreement("onnxruntime", "top-1", 0.5, 40, "held-out", 0.9, False)
    assert exit_code(report(int8(agreements=(share,)))) == 1


def test_a_failed_stage_of_a_precision_fails_the_conversion():
    failed = stages(engine=Stage("engine", "failed", 1.0, "the builder refuses it"))
    code, text = verdict(report(int8(stages=failed)))
    assert code == 4
    assert "Int8: engine failed: the builder refuses it." in text


def test_a_precision_that_did_not_run_is_no_pass():
    idle = tuple(Stage(one.name, "not-run", reason="no GPU") for one in stages())
    one = int8(stages=idle, values=(), agreements=())
    assert precision_status(one) == "not-run"
    code, text = verdict(report(one))
    assert code == 0
    assert "int8: rewrite" in text
    assert "within its budget" not in text


def test_a_stage_without_a_reason_is_refused():
    broken = stages(engine=Stage("engine", "not-run"))
    with pytest.raises(ValueError, match="int8: engine is not-run but has no reason"):
        check_report(report(int8(stages=broken)))


def test_markup_in_names_stays_text():
    one = int8(name=HOSTILE, notes=(HOSTILE,), values=(value(None, False, HOSTILE),))
    whole = report(one)
    assert "<script>" not in page(whole)
    xml_of(whole)
    console_table(whole)
