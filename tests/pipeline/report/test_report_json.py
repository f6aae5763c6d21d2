import json

import numpy as np
import pytest
from report_examples import (
    NO_DEVICE,
    PAIR,
    SHA,
    a_broken_report,
    a_failed_report,
    a_hostile_report,
    a_report,
    stages_failed_at,
)

from trtyard.core.errors import UsageError
from trtyard.core.report_json import report_value
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.report.reading import report_of


def stored(report):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(json.dumps(report_value(report)), parse_constant=refuse)


def test_keys_that_other_programs_rely_on():
    value = stored(a_report())
    promised = {
        "schema", "row", "model", "precision", "executor", "stages", "parity", "detections",
        "engine", "artifacts", "inputs", "versions",
    }  # fmt: skip
    assert promised <= set(value)
    assert value["schema"] == 2
    assert (value["row"], value["model"]) == ("rtx-1.7", "faster_rcnn")
    row = {"pair", "output", "max_abs", "max_rel", "cosine", "atol", "rtol", "passed"}
    assert all(row <= set(each) for each in value["parity"])
    found = {"pair", "reference", "matched", "labels_equal", "worst_iou", "worst_score_diff",
             "passed"}  # fmt: skip
    assert all(found <= set(each) for each in value["detections"])
    assert value["engine"]["plugin_layers"] == ["PaddedNMS", "PaddedNMS", "MaskRcnnROIAlign"]
    assert (value["engine"]["bytes"], value["engine"]["layers"]) == (137_900_000, 598)
    assert value["artifacts"] == {"model.onnx": {"sha256": SHA, "bytes": 135_000_000}}
    assert value["inputs"]["image"]["sha256"] == SHA
    weights = {"source": "seeded:0", "sha256": SHA, "address": None}
    assert value["inputs"]["weights"] == weights
    assert value["versions"]["torch"] == "2.13.0"
    assert value["proposals"] == [{"runtime": "torch", "alive": 40, "padded": 300}]


def test_stages_have_only_applicable_keys():
    stages = {stage["name"]: stage for stage in stored(a_report())["stages"]}
    assert stages["torch"] == {"name": "torch", "status": "passed", "seconds": 3.1}
    assert stages["tensorrt"] == {"name": "tensorrt", "status": "not-run", "reason": NO_DEVICE}
    failed = stored(a_report(stages=stages_failed_at("export", "why", "do this")))["stages"][1]
    assert failed == {
        "name": "export", "status": "failed", "seconds": 1.0, "reason": "why", "hint": "do this",
    }  # fmt: skip


def test_figures_are_those_of_the_comparison():
    report = a_failed_report()
    value = stored(report)
    boxes = next(row for row in value["parity"] if row["output"] == "boxes")
    assert boxes["pair"] == ["torch", "onnxruntime"]
    assert boxes["max_abs"] == report.parity[0].max_abs == pytest.approx(4.0)
    assert boxes["mismatches"] == 4
    assert boxes["passed"] is False
    [found] = value["detections"]
    assert (found["reference"], found["matched"], found["labels_equal"]) == (3, 3, 2)
    assert found["worst_box_diff"] == pytest.approx(4.0)
    assert found["tolerance"] == {"box": 0.05, "score": 0.001}
    assert [match["within"] for match in found["matches"]] == [True, False, False]
    assert value["verdict"]["exit_code"] == 1


def test_histogram_bins_have_their_edges():
    reference = np.zeros(6)
    candidate = np.array([0.0, 3e-5, 4e-5, 2e-4, 5e-3, 6e-3])
    report = a_report(compare_outputs("tensor", PAIR, {"a": reference}, {"a": candidate}))
    [row] = stored(report)["parity"]
    bins = [(each["from"], each["to"], each["count"]) for each in row["histogram"]["bins"]]
    assert bins == [(1e-5, 1e-4, 2), (1e-4, 1e-3, 1), (1e-3, 1e-2, 2)]
    assert row["histogram"]["exact"] == 1


def test_nan_and_infinity_are_stored_as_names():
    reference = {"out": np.array([1.0, 2.0, np.nan], np.float32)}
    candidate = {"out": np.array([np.nan, np.inf, np.nan], np.float32)}
    [row] = stored(a_report(compare_outputs("tensor", PAIR, reference, candidate)))["parity"]
    assert row["max_abs"] == "Infinity"
    assert row["worst"]["candidate"] == "NaN"
    assert row["passed"] is False
    assert row["histogram"]["non_finite"] == 2


@pytest.mark.parametrize("make", [a_report, a_failed_report, a_hostile_report, a_broken_report])
def test_report_round_trips(make):
    report = make()
    assert repr(report_of(stored(report))) == repr(report)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.pop("row"), "report.json lacks row"),
        (lambda value: value.update(opset="18"), "report.json.opset is '18', expected int"),
        (lambda value: value["stages"][0].update(status=1), "stages[0].status is 1, expected str"),
        (lambda value: value["stages"].append([]), "stages[6] is [], expected dict"),
        (lambda value: value["parity"][0].update(histogram={}), "parity[0].histogram is not a"),
        (lambda value: value["parity"][0].update(max_abs="inf"), "parity[0].max_abs is 'inf'"),
        (lambda value: value["parity"][0].update(passed=1), "parity[0].passed is 1, expected bool"),
        (lambda value: value["parity"][0]["pair"].pop(), "parity[0].pair has 1 values, expected 2"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(change, said):
    value = stored(a_report())
    change(value)
    with pytest.raises(UsageError) as caught:
        report_of(value)
    assert said in str(caught.value)


def test_missing_artifact_is_null():
    value = stored(a_report(engine=None, parity=(), detections=()))
    assert value["engine"] is None
    assert value["parity"] == []


def test_any_text_is_stored_unchanged():
    report = a_hostile_report()
    assert stored(report)["model"] == report.model
