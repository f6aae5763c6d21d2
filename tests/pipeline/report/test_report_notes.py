"""What a stage's result does not say by itself, in every form of the report."""

import json
import xml.etree.ElementTree as Tree

from report_examples import a_report, passed_stages, verdict

from trtyard.core.report import Stage
from trtyard.core.report_json import report_value
from trtyard.report.console import console_table
from trtyard.report.junit import junit_text
from trtyard.report.page import page

NOTE = "ran model.twin.onnx, because onnx is old"
NOTED = a_report(stages=passed_stages(onnxruntime=Stage("onnxruntime", "passed", 2.0, note=NOTE)))


def stages_of(report):
    value = json.loads(json.dumps(report_value(report)))
    return {stage["name"]: stage for stage in value["stages"]}


def test_json_has_the_note_at_its_stage_only():
    assert stages_of(NOTED)["onnxruntime"]["note"] == NOTE
    assert not any("note" in stage for stage in stages_of(a_report()).values())


def test_junit_has_it_and_the_stage_still_passes():
    suite = Tree.fromstring(junit_text(NOTED)).find("testsuite[@name='stages']")  # noqa: S314
    (case,) = suite.findall("testcase[@name='onnxruntime']")
    assert [(child.tag, child.text) for child in case] == [("system-out", NOTE)]
    assert suite.get("failures") == "0"


def test_console_shows_the_note_at_stage_and_verdict():
    words = " ".join(console_table(NOTED).split())
    assert words.count("model.twin.onnx") == 2
    assert "ONNX Runtime ran model.twin.onnx, because onnx is old." in words


def test_export_note_follows_exporter_and_opset():
    stages = passed_stages(export=Stage("export", "passed", 9.0, note="is not valid ONNX"))
    words = " ".join(console_table(a_report(stages=stages)).split())
    assert "dynamo exporter, opset 18; is not valid ONNX" in words


def test_page_shows_the_note_at_stage_and_verdict():
    assert page(NOTED).count("ran model.twin.onnx, because onnx is old") == 2
    assert "model.twin.onnx" not in page(a_report())


def test_verdict_has_the_note_as_a_sentence():
    assert verdict(NOTED)[0] == 0
    assert "ONNX Runtime ran model.twin.onnx, because onnx is old." in verdict(NOTED)[1]
