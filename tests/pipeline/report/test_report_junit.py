import xml.etree.ElementTree as Tree

import pytest
from report_examples import (
    NO_DEVICE,
    a_failed_report,
    a_hostile_report,
    a_report,
    stages_failed_at,
)

from trtyard.core.report import STAGES, Stage
from trtyard.report.junit import junit_text


def parsed(report):
    return Tree.fromstring(junit_text(report).encode("utf-8"))  # noqa: S314 (our own)


def cases(report, suite):
    found = parsed(report).findall(f"testsuite[@name='{suite}']/testcase")
    return {case.get("name"): case for case in found}


def state(case):
    return [child.tag for child in case if child.tag in ("failure", "skipped", "error")]


def test_every_stage_and_comparison_is_a_testcase():
    report = a_report()
    assert tuple(cases(report, "stages")) == STAGES
    assert list(cases(report, "parity")) == [
        "torch-onnxruntime boxes", "torch-onnxruntime scores", "torch-onnxruntime labels",
    ]  # fmt: skip
    assert list(cases(report, "detections")) == ["torch-onnxruntime image 0"]
    assert cases(report, "stages")["export"].get("time") == "9.000"


@pytest.mark.parametrize("name", STAGES)
def test_stage_that_was_not_run_is_skipped_never_passed(name):
    stages = tuple(
        Stage(name, "not-run", reason="for a reason") if stage.name == name else stage
        for stage in a_report().stages
    )
    case = cases(a_report(stages=stages), "stages")[name]
    assert state(case) == ["skipped"]
    assert case.find("skipped").get("message") == "for a reason"


def test_skipped_stage_has_its_reason():
    skipped = cases(a_report(), "stages")["tensorrt"].find("skipped")
    assert skipped.get("message") == NO_DEVICE


def test_failed_stage_is_a_failure_with_its_whole_reason():
    case = cases(a_report(stages=stages_failed_at("export", "one\ntwo", "fix it")), "stages")
    assert state(case["export"]) == ["failure"]
    assert case["export"].find("failure").text == "one\ntwo\nfix it"
    assert all(state(case[name]) == ["skipped"] for name in STAGES[2:])


def test_failed_comparisons_are_failures_with_their_figures():
    report = a_failed_report()
    parity = cases(report, "parity")
    assert {name: state(case) for name, case in parity.items()} == {
        "torch-onnxruntime boxes": ["failure"],
        "torch-onnxruntime scores": [],
        "torch-onnxruntime labels": ["failure"],
    }
    assert "max abs 4" in parity["torch-onnxruntime boxes"].find("failure").get("message")
    [detections] = cases(report, "detections").values()
    assert state(detections) == ["failure"]
    assert "2 labels equal" in detections.find("failure").get("message")


@pytest.mark.parametrize(
    "report",
    [a_report(), a_failed_report(), a_hostile_report()],
    ids=["passed", "failed", "hostile"],
)
def test_counts_match_the_testcases(report):
    root = parsed(report)
    for holder in [root, *root.findall("testsuite")]:
        found = holder.findall(".//testcase")
        assert int(holder.get("tests")) == len(found)
        assert int(holder.get("failures")) == sum(state(case) == ["failure"] for case in found)
        assert int(holder.get("skipped")) == sum(state(case) == ["skipped"] for case in found)
        assert holder.get("errors") == "0"


def test_any_text_is_escaped():
    root = parsed(a_hostile_report())
    assert root.findall(".//script") == []
    assert "<script>alert('x')</script>" in root.find(".//failure").text
