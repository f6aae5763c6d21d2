"""docs/zoo.md shows what docs/zoo.json holds, that is what the results said, and none gets lost."""

import importlib
import json
import re
import sys

import pytest

from trtyard.core.toolchains import Toolchain
from trtyard.system.uv import ROOT


def of_bench(name):
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.fixture(scope="module")
def page():
    return of_bench("zoo_page")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    module = of_bench("zoo")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


@pytest.fixture
def data(page):
    return json.loads((ROOT / page.DATA).read_text())


def test_page_matches_the_data(page, data):
    text = (ROOT / page.PAGE).read_text()
    assert page.with_tables(text, data) == text
    assert (ROOT / page.DATA).read_text() == page.in_json(data)


def test_another_result_gives_another_page(page, data):
    text = (ROOT / page.PAGE).read_text()
    key = next(key for key, one in data.items() if not one["failed"])
    data[key]["failed"] = {"engine": {"error": "refused", "failure": "nonzero"}}
    changed = page.with_tables(text, data)
    assert changed != text
    assert "**engine**: nonzero" in changed


def test_every_result_has_a_case_and_a_reason(page, data):
    assert set(data) <= set(page.all_keys())
    for one in data.values():
        for problem in one["failed"].values():
            assert problem["failure"] or problem["error"]


OLDEST = Toolchain("7.0", "full", "7.0.0.11", "1.4.0", "torchscript", 11)
NEWER = Toolchain("8.6", "full", "8.6.1.6", "2.2.2", "torchscript", 17)
RAW = {
    "stages": {
        "torch": {"status": "passed"},
        "export": {"status": "passed", "ops": ["Conv", "NonZero", "Relu"], "warnings": []},
        "onnxruntime": {"status": "passed"},
        "parity": {
            "status": "passed",
            "passed": False,
            "worst": 0.0123,
            "problems": ["boxes: 3 of 40 differ"],
            "detections": [{"torch": 10, "onnxruntime": 9, "matched": 8}],
        },
        "engine": {
            "status": "failed",
            "error": "TensorRT's ONNX parser refuses model.onnx",
            "words": "NonZero plugin creator version 1 was not found in plugin registry",
        },
    }
}


def test_summary_has_every_failure(page):
    found = page.summary_of(RAW, OLDEST)
    assert found["failed"]["parity"] == {"error": "boxes: 3 of 40 differ", "failure": ""}
    assert found["failed"]["engine"]["failure"] == "nonzero"
    assert found["lacking"] == ["NonZero"]
    assert page.summary_of(RAW, NEWER)["lacking"] == []
    assert page.summary_of(RAW, OLDEST._replace(flavour="rtx"))["lacking"] == []
    assert page.cell("7.0", found) == (
        "8 of 10; **parity**: boxes: 3 of 40 differ; **engine**: nonzero; 7.0 lacks NonZero"
    )


@pytest.mark.parametrize(
    ("row", "problems", "failure"),
    [
        (OLDEST, ["keypoints_scores: 1592 of 1700 differ"], "keypoint-scores-of-the-first"),
        (OLDEST, ["keypoints_scores: 9 of 17 differ", "keypoints: 9 of 51 differ"], ""),
        (OLDEST, ["boxes: 3 of 40 differ"], ""),
        (NEWER, ["keypoints_scores: 1592 of 1700 differ"], ""),
    ],
)
def test_differing_results_are_explained_by_row(page, row, problems, failure):
    stages = dict(RAW["stages"], parity=dict(RAW["stages"]["parity"], problems=problems))
    found = page.summary_of({"stages": stages}, row)
    assert found["failed"]["parity"] == {"error": "; ".join(problems), "failure": failure}


def test_differing_results_are_explained_by_symptoms(page):
    parity = dict(RAW["stages"]["parity"], symptoms=["keypoint-of-a-tie"])
    found = page.summary_of({"stages": dict(RAW["stages"], parity=parity)}, NEWER)
    assert found["failed"]["parity"]["failure"] == "keypoint-of-a-tie"


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (6.02e-07, "6e-7"), (0.0125, "1e-2")])
def test_share_is_worded_by_its_size(page, value, words):
    assert page.share(value) == words


def test_the_results_are_of_no_one_machine(page):
    text = (ROOT / page.DATA).read_text()
    assert not re.findall(r"(?<![\w.])/(?:home|opt|root|srv|tmp|usr|var|work)/\S*", text)


def test_the_rows_are_counted_stage_by_stage(page):
    summaries = {
        "7.0.alexnet.torchscript-11": {"failed": {}, "layers": 32},
        "7.0.resnet18.torchscript-11": {"failed": {"engine": {}}, "layers": 0},
        "7.0.fcn_resnet50.torchscript-10": {"failed": {"parity": {}}, "layers": 100},
        "7.0.googlenet.torchscript-11": {"failed": {"onnxruntime": {}}, "layers": 0},
        "7.0.fasterrcnn_resnet50_fpn.torchscript-10": {"failed": {"export": {}}, "layers": 0},
    }
    every = sum(key.startswith("7.0.") for key in page.all_keys())
    lines = page.counts(summaries)
    assert f"| `7.0` | {every} | 5 | 4 | 2 | 2 |" in lines
    assert any(
        line.startswith("| `8.6` |") and line.endswith("| 0 | 0 | 0 | 0 |") for line in lines
    )


def keys(cases):
    return [case.key for case in cases]


def test_only_cases_without_a_result_are_tried(zoo, page, data):
    every = page.all_keys()
    assert keys(zoo.to_try("*", {})) == every
    assert keys(zoo.to_try("*", data)) == [key for key in every if key not in data]
    first = zoo.to_try("rtx-1.7.*", {})[0]
    assert first.row == "rtx-1.7"
    zoo.result_of(first).write_text("{}")
    assert keys(zoo.to_try("*", {})) == [key for key in every if key != first.key]


def test_published_results_are_retried_on_request(zoo, data):
    key = next(key for key, one in data.items() if not one["failed"])
    failed = [key for key, one in data.items() if one["failed"]]
    assert key not in keys(zoo.to_try("*", data))
    assert key in keys(zoo.to_try("*", data, again=True))
    assert keys(zoo.to_try("*", data, failed=True)) == failed
    for one in zoo.to_try(failed[0], data, failed=True):  # those of this run count all the same
        zoo.result_of(one).write_text("{}")
    assert keys(zoo.to_try("*", data, failed=True)) == failed[1:]
    assert failed[0] not in keys(zoo.to_try("*", data, again=True))


def test_new_result_replaces_only_its_own_entry(zoo, page, data, tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    (root / "docs").mkdir(parents=True)
    for name in (page.DATA, page.PAGE):
        (root / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(zoo, "ROOT", root)
    key = next(key for key, one in data.items() if not one["failed"])
    (tmp_path / f"{key}.json").write_text(json.dumps(RAW))
    assert zoo.render(check=False) == 0
    assert zoo.render(check=True) == 0
    found = json.loads((root / page.DATA).read_text())
    assert list(found) == list(data)
    assert found.pop(key)["failed"]["engine"]["failure"] == "nonzero"
    assert found == {other: one for other, one in data.items() if other != key}
