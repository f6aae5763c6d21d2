import json

import pytest

from trtyard.batch.jobs_file import in_folder_of, read_jobs
from trtyard.batch.record import (
    RESULT_FILE,
    Attempt,
    command_of,
    read_result,
    result_in_words,
    unfinished,
    worst,
)
from trtyard.core.request import ConversionRequest

JOBS = """
[[jobs]]
models = ["net.py:make"]
input = "1x3"
weights = "net.pth"
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "net.py").write_text("one")
    (tmp_path / "net.pth").write_bytes(b"weights")
    file = tmp_path / "jobs.toml"
    file.write_text(JOBS)
    with in_folder_of(file):
        return read_jobs(file, tmp_path / "out")[0].job


def convert(job, code, report="{}"):
    attempt = Attempt.of(job)
    if report:
        (job.out / "report.json").unlink(missing_ok=True)
        (job.out / "report.json").write_text(report)
    attempt.ended(code)


def test_passed_conversion_is_finished(job):
    assert unfinished(job) == "not run yet"
    convert(job, 0)
    assert unfinished(job) is None
    assert result_in_words(read_result(job.out)) == "passed"


def test_another_signature_of_the_same_weights_is_finished(tmp_path):
    def signed(signature):
        address = f"https://example.org/net.pth?sig={signature}#sha256={'0' * 64}"
        file = tmp_path / "signed.toml"
        file.write_text(f'[[jobs]]\nmodels = ["alexnet"]\nweights = "{address}"\n')
        with in_folder_of(file):
            return read_jobs(file, tmp_path / "out")[0].job

    convert(signed("first-secret"), 0)
    assert unfinished(signed("second-secret")) is None
    written = [each.read_text() for each in (tmp_path / "out").rglob("*.json")]
    assert written
    assert "first-secret" not in "".join(written)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "failed (1): parity failed"),
        (3, "failed (3): the machine lacks something"),
        (4, "failed (4): the conversion failed"),
        (-9, "failed (-9): killed by SIGKILL"),
        (-40, "failed (-40): killed by signal 40"),
    ],
)
def test_failed_conversion_is_not_finished(job, code, said):
    convert(job, code)
    assert unfinished(job) == said


def test_conversion_that_starts_again_has_no_result(job):
    convert(job, 0)
    Attempt.of(job)
    assert unfinished(job) == "not run yet"


@pytest.mark.parametrize("model", ["net.py:make", "net:make"])
def test_changed_module_that_the_model_imports_is_named(tmp_path, model):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks/__init__.py").write_text("from . import deep\n")
    deep = tmp_path / "blocks/deep.py"
    deep.write_text("import torch\n")
    (tmp_path / "net.py").write_text("import os, blocks, missing\n")
    (tmp_path / "other.py").write_text("")
    file = tmp_path / "jobs.toml"
    file.write_text(JOBS.replace("net.py:make", model).replace('weights = "net.pth"', ""))
    with in_folder_of(file):
        job = read_jobs(file, tmp_path / "out")[0].job
    convert(job, 0)
    (tmp_path / "other.py").write_text("changed")
    assert unfinished(job) is None
    deep.write_text("import torch, os\n")
    assert unfinished(job) == f"changed: {deep}"


@pytest.mark.parametrize("name", ["net.py", "net.pth"])
def test_changed_input_file_is_named(job, name, tmp_path):
    convert(job, 0)
    (tmp_path / name).write_text("another content")
    assert unfinished(job) == f"changed: {tmp_path / name}"


@pytest.mark.parametrize(
    ("key", "said"), [("trtyard", "trtyard"), ("the lock of row rtx-1.7",) * 2]
)
def test_changed_trtyard_or_lock_is_named(job, key, said):
    convert(job, 0)
    file = job.out / RESULT_FILE
    value = json.loads(file.read_text())
    assert key in value["identity"]
    value["identity"][key] = "an earlier one"
    file.write_text(json.dumps(value))
    assert unfinished(job) == f"changed: {said}"


def test_replaced_or_removed_report_is_named(job):
    convert(job, 0)
    (job.out / "report.json").write_text("{ }")
    assert unfinished(job) == "changed: report.json was replaced"
    (job.out / "report.json").unlink()
    assert unfinished(job) == "changed: report.json was removed"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "x": 2}'])
def test_unreadable_result_is_no_result(job, text):
    convert(job, 0)
    (job.out / RESULT_FILE).write_text(text)
    assert unfinished(job) == "not run yet"


def test_earlier_report_does_not_count_as_new(job):
    convert(job, 0)
    convert(job, 3, report="")
    assert (job.out / "report.json").exists()
    assert read_result(job.out).report is None


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 3], 3),
        ([0, -9], 3),
        ([3, 1, 0], 1),
        ([1, 4], 4),
        ([4, 2], 2),
        ([5, 2, 130], 5),
        ([70, 5], 70),
    ],
)
def test_exit_code_is_the_worst(codes, expected):
    assert worst(codes) == expected


def test_command_gives_the_options_that_were_set():
    request = ConversionRequest(model="-x.py:make", input="x=1x3", simplify=True, norm_eps=1e-5)
    words = command_of(request)[3:]
    assert words == [
        "convert", "--model=-x.py:make", "--input=x=1x3", "--norm-eps=1e-05", "--simplify"
    ]  # fmt: skip
