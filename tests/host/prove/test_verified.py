import json
from dataclasses import replace

import pytest

from trtyard.build.build import content_labels
from trtyard.core.errors import IntegrityError, ParityError, UsageError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.prove import verified
from trtyard.prove.verification import Cell
from trtyard.prove.verified import (
    BEGIN,
    COLUMNS,
    DATA,
    END,
    check_no_worse,
    check_readme,
    collect,
    read_verified,
    table,
    with_table,
)
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

MATRIX, LOCK = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
LABELS = content_labels(MATRIX.row("rtx"), LOCK.row("rtx-1.7"))
PASSED = Cell(status="passed", reason="")


def report(model, **statuses):
    stages = {"torch": "passed", "export": "passed", "onnxruntime": "passed", "engine": "passed"}
    stages = {**stages, "tensorrt": "not-run", **statuses}
    return {
        "schema": 2,
        "row": "rtx-1.7",
        "model": model,
        "stages": [
            {
                "name": name,
                "status": status,
                **({} if status == "passed" else {"reason": f"no {name}"}),
            }
            for name, status in stages.items()
        ],
        "parity": [{"passed": True}],
        "detections": [],
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "tensorrt": "1.7.1.116"},
    }


@pytest.fixture
def run(tmp_path):
    """Return a function that lays the reports of a run and collects them."""

    def lay(alexnet=None, faster_rcnn=None, image=True):
        folder = tmp_path / "out" / "rtx-1.7"
        for name, value in (("alexnet", alexnet), ("faster_rcnn", faster_rcnn)):
            value = report(name) if value is None else value
            if value:
                (folder / name).mkdir(parents=True)
                (folder / name / "report.json").write_text(json.dumps(value))
        if image:
            labels = LABELS
            text = json.dumps([{"Config": {"Labels": image if image is not True else labels}}])
            (folder / "image.json").write_text(text)
        return collect(tmp_path / "out", MATRIX, LOCK)

    return lay


def test_committed_table_matches_the_data():
    check_readme(read_verified(DATA), MATRIX)


def test_only_reported_steps_pass(run):
    found = run()
    assert set(found) == set(MATRIX.rows)
    cells = found["rtx-1.7"]
    assert [cells[column].status for column in COLUMNS] == ["passed"] * 4 + ["not-run"]
    assert cells["engine-run"].reason == "no tensorrt"
    for row in set(found) - {"rtx-1.7"}:
        assert {cell.status for cell in found[row].values()} == {"not-run"}
        assert all(cell.reason for cell in found[row].values())


def test_column_shows_its_worst_model(run):
    cells = run(faster_rcnn=report("faster_rcnn", export="failed", onnxruntime="not-run"))[
        "rtx-1.7"
    ]
    assert cells["exported"].status == "failed"
    assert cells["parity"].status == "not-run"


def test_missing_model_fails_and_hides_no_failure(run):
    cells = run(alexnet=report("alexnet", export="failed"), faster_rcnn={})["rtx-1.7"]
    assert [cells[column].status for column in COLUMNS[1:]] == ["failed", *["not-run"] * 3]


@pytest.mark.parametrize(
    ("name", "version"),
    [("torch", "2.12.0"), ("tensorrt", "1.7.1.115"), ("tensorrt", "1.7.11"), ("torch", "2.13")],
)
def test_report_with_other_versions_than_the_row_is_refused(run, name, version):
    value = report("alexnet")
    value["versions"][name] = version
    with pytest.raises(
        IntegrityError, match=rf"alexnet/report.json was made with {name} {version}"
    ):
        run(alexnet=value)


def test_tensorrt_version_may_lack_the_last_number(run):
    value = report("alexnet")
    value["versions"]["tensorrt"] = "1.7.1"
    assert run(alexnet=value)["rtx-1.7"]["parity"].status == "passed"


def test_multi_line_reason_becomes_one_table_line(run):
    value = report("alexnet", engine="failed")
    value["stages"][3]["reason"] = "no such op\n  at net.py:3"
    assert run(alexnet=value)["rtx-1.7"]["engine-built"].reason == "no such op"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"parity": [{"passed": True}, {"passed": False}]}, "failed"),
        ({"detections": [{"passed": False}]}, "failed"),
        ({"parity": []}, "not-run"),
    ],
)
def test_failed_or_missing_parity_does_not_pass(run, change, status):
    assert run(alexnet={**report("alexnet"), **change})["rtx-1.7"]["parity"].status == status


@pytest.mark.parametrize("label", LABELS)
def test_image_with_other_labels_fails(run, label):
    assert run(image={**LABELS, label: "0" * 12})["rtx-1.7"]["built"].status == "failed"


def test_no_image_is_not_run(run):
    assert run(image=None)["rtx-1.7"]["built"].status == "not-run"


def test_another_models_report_is_refused(run):
    with pytest.raises(UsageError, match="alexnet"):
        run(alexnet=report("resnet50"))


def test_run_that_passes_less_than_the_data_fails(run):
    claimed = run()
    check_no_worse(claimed, claimed)
    less = {**claimed["rtx-1.7"], "parity": Cell(status="not-run", reason="asleep")}
    with pytest.raises(ParityError, match=r"rtx-1\.7, parity: not-run: asleep"):
        check_no_worse(claimed, {**claimed, "rtx-1.7": less})
    more = {**claimed["rtx-1.7"], "engine-run": PASSED}
    check_no_worse(claimed, {**claimed, "rtx-1.7": more})


def test_table_has_every_row_between_its_marks(run):
    found = run()
    text = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", MATRIX, found)
    assert text.startswith(f"before\n{BEGIN}\n| row |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    made = table(MATRIX, found)
    (line,) = (line for line in made.splitlines() if line.startswith("| `rtx-1.7` (default"))
    assert line.endswith("| built, exported, parity, engine built; not run: engine run (1) |")
    for fact in ("TensorRT for RTX 1.7.1.116", "2.13.0 / 0.28.0", "18, dynamo", "8.0, 8.6, 8.9"):
        assert f"| {fact}" in line
    assert "1. no tensorrt" in made
    failed = {**found["rtx-1.7"], "parity": Cell(status="failed", reason="the outputs differ")}
    assert "; **FAILED**: parity (1); not run: " in table(MATRIX, {**found, "rtx-1.7": failed})
    with pytest.raises(IntegrityError, match="markers"):
        with_table("no marks", MATRIX, found)


def test_check_finds_a_readme_that_differs_from_the_data(run, monkeypatch, tmp_path):
    found = run()
    readme = tmp_path / "README.md"
    readme.write_text(with_table(f"{BEGIN}\n{END}\n", MATRIX, found))
    monkeypatch.setattr("trtyard.prove.verified.README", readme)
    check_readme(found, MATRIX)
    readme.write_text(readme.read_text().replace("; not run: engine run (1)", ", engine run"))
    with pytest.raises(IntegrityError, match="README"):
        check_readme(found, MATRIX)
    # The hint's command fixes it.
    verified.run(folder="", check=False, need="")
    check_readme(read_verified(DATA), MATRIX)
    with pytest.raises(IntegrityError, match=r"verified.json has row .*rtx-1\.7.*versions.toml"):
        check_readme(found, replace(MATRIX, rows={}))


@pytest.mark.parametrize("check", [False, True])
def test_missing_row_in_verified_json_is_an_error(monkeypatch, tmp_path, check):
    data = json.loads(DATA.read_text())
    del data["rows"]["8.6"]
    file, readme = tmp_path / "verified.json", tmp_path / "README.md"
    file.write_text(json.dumps(data))
    readme.write_text(before := verified.README.read_text())
    monkeypatch.setattr(verified, "DATA", file)
    monkeypatch.setattr(verified, "README", readme)
    with pytest.raises(IntegrityError) as caught:
        verified.run(folder="", check=check, need="")
    assert caught.value.exit_code == 5
    assert caught.value.message == "docs/verified.json lacks row 8.6"
    assert "copy another row's entry" in caught.value.hint
    assert caught.value.hint.endswith("./run verified")
    assert readme.read_text() == before


@pytest.mark.parametrize("need", ["rtx", "rtx:speed", "nine:built"])
def test_invalid_need_is_a_usage_error(tasks, tmp_path, need):
    assert tasks("verified", "--from", str(tmp_path), "--need", need).returncode == 2


def test_unmet_requirement_exits_with_1(tasks, tmp_path):
    done = tasks("verified", "--from", str(tmp_path), "--need", "rtx:engine-run")
    assert done.returncode == 1
    assert "engine-run is not-run" in done.stderr


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_folder_without_reports_changes_nothing(tasks, checkout, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    before = (checkout / "README.md").read_bytes()
    done = tasks("verified", "--from", str(tmp_path / folder), root=checkout)
    assert done.returncode == 2
    assert f"--from {tmp_path / folder}: " in done.stderr
    assert (checkout / "README.md").read_bytes() == before
