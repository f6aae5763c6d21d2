"""Which tests ``./run test`` runs, and what it says before and after."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run import selftest
from trtyard.run.environment import UNPACKED, environment_of
from trtyard.run.selftest import PARTS, chosen_parts, downloads, run_linters, run_tests
from trtyard.system.interpreters import find_python
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


@pytest.mark.parametrize(
    ("only", "all_parts", "parts"),
    [
        ("", False, ("host", "pipeline")),
        ("", True, PARTS),
        ("gpu,rows , docker", False, ("rows", "docker", "gpu")),
        ("slow,host", False, ("host", "slow")),
        ("slow,pipeline", False, ("pipeline", "slow")),
    ],
)
def test_parts_are_chosen_in_their_usual_order(only, all_parts, parts):
    assert chosen_parts(only, all_parts=all_parts) == parts


@pytest.mark.parametrize("only", ["everything", "host,", "host;rows", "Host"])
def test_unknown_part_error_lists_valid_parts(only):
    with pytest.raises(UsageError, match=", ".join(PARTS)):
        chosen_parts(only, all_parts=False)


@pytest.fixture
def commands(monkeypatch):
    """Return the pytest commands as lists of words.

    ``codes`` gives their exit codes, ``polls`` how often they still run when asked.
    """

    class Commands(list):
        def __init__(self):
            self.codes, self.polls = {}, {}
            self.threads, self.paths, self.ended = [], [], []

    called = Commands()

    @contextlib.contextmanager
    def in_background(command, *, output, cwd, env):
        words = [str(word) for word in command]
        called.append(words[words.index("pytest") + 1 :])
        called.threads.append(env.get("OMP_NUM_THREADS"))
        called.paths.append(env.get("PYTHONPATH"))
        name = words[words.index("pytest") + 1]
        if output is not None:
            os.write(output, f"of {name}\n".encode())
        polls = iter([None] * called.polls.get(name, 1))
        yield SimpleNamespace(poll=lambda: next(polls, called.codes.get(name, 0)))
        called.ended.append(name)

    monkeypatch.setattr(selftest, "in_background", in_background)
    monkeypatch.setattr(selftest, "_POLL_SECONDS", 0)
    monkeypatch.setattr(selftest, "downloads", lambda row, parts: ())
    monkeypatch.setattr(selftest, "engine_problem", lambda: None)
    monkeypatch.setattr(selftest, "has_cuda_device", lambda: False)
    monkeypatch.setattr(selftest, "onnxruntime_headers", lambda: Path("headers"))
    monkeypatch.setattr(
        selftest, "make_environment", lambda row, lock: environment_of(row, lock, row.python)
    )
    return called


def test_slow_tests_are_skipped_by_default_with_a_message(commands, capsys):
    assert run_tests("default", only="", all_parts=False, words=["-x"]) == 0
    assert commands == [["tests/pipeline", "-m", "not slow", "-x"], ["tests/host", "-x"]]
    said = capsys.readouterr().err
    assert "not selected: slow tests of tests/pipeline, tests/rows, tests/docker, tests/gpu" in said
    assert "./run test --all" in said


def test_tests_with_models_use_one_thread_by_default(commands, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run_tests("default", only="", all_parts=True, words=[])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_tests("default", only="", all_parts=True, words=[])
    assert commands.threads == [*4 * ["1"], None, *5 * ["3"]]


def test_all_tests_run_once_and_skips_are_reported(commands, capsys):
    assert run_tests("default", only="", all_parts=True, words=[]) == 0
    docker, slow, rows, without_slow, host = commands
    assert (docker, rows, host) == (["tests/docker"], ["tests/rows"], ["tests/host"])
    assert slow == ["tests/pipeline", "-m", "slow"]
    assert without_slow == ["tests/pipeline", "-m", "not slow"]
    said = capsys.readouterr().err
    assert "tests/gpu: NOT RUN: no CUDA device on this machine" in said
    assert "not selected" not in said


def test_gpu_tests_get_onnxruntime_gpu_first(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(selftest, "has_cuda_device", lambda: True)
    monkeypatch.setattr(
        selftest, "make_gpu_overlay", lambda *_: SimpleNamespace(folder=tmp_path / "gpu")
    )
    for parts in ("gpu", "pipeline"):
        run_tests("default", only=parts, all_parts=False, words=[])
    first = [paths.split(os.pathsep)[0] for paths in commands.paths]
    assert first == [str(tmp_path / "gpu" / "site-packages"), str(selftest.ROOT)]


def test_pipeline_alone_includes_its_slow_tests(commands):
    assert run_tests("default", only="pipeline", all_parts=False, words=[]) == 0
    assert commands == [["tests/pipeline"]]


def test_the_slow_tests_run_alone(commands):
    assert run_tests("default", only="slow", all_parts=False, words=[]) == 0
    assert commands == [["tests/pipeline", "-m", "slow"]]


def test_parts_run_two_at_a_time_and_longest_first(commands, capfd):
    commands.polls = {"tests/docker": 5, "tests/pipeline": 2, "tests/rows": 5, "tests/host": 1}
    assert run_tests("default", only="slow,rows,docker,host", all_parts=False, words=[]) == 0
    assert commands.ended == ["tests/pipeline", "tests/docker", "tests/host", "tests/rows"]
    captured = capfd.readouterr()
    slow = "slow tests of tests/pipeline\nof tests/pipeline\n"
    assert captured.out == f"{slow}tests/rows\nof tests/rows\n"
    assert "tests/rows run in the background, and their output comes last" in captured.err
    assert captured.err.index("tests/host: passed") < captured.err.index("tests/rows: passed")


def test_gpu_tests_run_after_all_others(commands, monkeypatch):
    monkeypatch.setattr(selftest, "has_cuda_device", lambda: True)
    monkeypatch.setattr(
        selftest, "make_gpu_overlay", lambda *_: SimpleNamespace(folder=selftest.ROOT)
    )
    commands.polls = {"tests/pipeline": 5}
    assert run_tests("default", only="slow,gpu,host", all_parts=False, words=[]) == 0
    assert commands.ended == ["tests/host", "tests/pipeline", "tests/gpu"]


def test_interrupt_ends_both_parts(commands, monkeypatch):
    ended = []

    @contextlib.contextmanager
    def in_background(command, **_):
        try:
            yield SimpleNamespace(poll=lambda: None)
        except GeneratorExit:
            ended.append([str(word) for word in command][3])

    def interrupted(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "in_background", in_background)
    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tests("default", only="", all_parts=False, words=[])
    assert sorted(ended) == ["tests/host", "tests/pipeline"]


@pytest.mark.parametrize(
    ("only", "words", "codes", "code"),
    [
        ("", [], {"tests/host": 1}, 1),
        ("slow,rows", [], {"tests/rows": 1}, 1),
        ("slow,rows", [], {"tests/pipeline": 1}, 1),
        ("", [], {"tests/pipeline": 2}, 1),
        ("", [], {"tests/host": 5}, 1),  # no test was found, where all were asked for
        ("", ["-k", "x"], {"tests/host": 5}, 0),
        ("", ["-k", "x"], {"tests/host": 5, "tests/pipeline": 5}, 1),
        ("gpu", [], {}, 1),  # nothing ran
    ],
)
def test_the_exit_code_is_that_of_all_parts(commands, only, words, codes, code):
    commands.codes = codes
    assert run_tests("default", only=only, all_parts=False, words=words) == code


def test_row_without_host_tensorrt_skips_pipeline_tests(commands, capsys):
    assert run_tests("8.6", only="pipeline", all_parts=False, words=[]) == 1
    assert not commands
    assert "tests/pipeline: NOT RUN: row 8.6 has no TensorRT on the host" in capsys.readouterr().err


def test_missing_docker_fails_only_if_required(commands, capsys, monkeypatch):
    monkeypatch.setattr(selftest, "engine_problem", lambda: "no engine answers")
    monkeypatch.delenv(selftest.REQUIRE_DOCKER, raising=False)
    assert run_tests("default", only="docker,host", all_parts=False, words=[]) == 0
    assert commands == [["tests/host"]]
    assert "tests/docker: NOT RUN: no engine answers" in capsys.readouterr().err
    monkeypatch.setenv(selftest.REQUIRE_DOCKER, "1")
    run_tests("default", only="docker", all_parts=False, words=[])
    assert commands[1:] == [["tests/docker"]]


def test_download_size_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr("trtyard.run.environment.YARD", tmp_path)  # none is made there
    (said,) = [line for line in downloads("default", ("pipeline",)) if "download" in line]
    row = read_matrix(MATRIX_FILE).row("default")
    size = sum(wheel.size for wheel in read_lock(LOCK_FILE).row(row.name).wheels_for("3.11"))
    assert size > 3e9
    assert f"of row {row.name}: up to {size / 1e9:.1f} GB to download" in said
    assert f"{size * UNPACKED / 1e9:.1f} GB on disk" in said


def test_a_wheel_of_two_rows_is_downloaded_once(monkeypatch, tmp_path):
    monkeypatch.setattr("trtyard.run.environment.YARD", tmp_path)
    lock, files = read_lock(LOCK_FILE), {}
    skipped = []
    for row in read_matrix(MATRIX_FILE).rows.values():
        try:
            version, _ = find_python(one for one in row.pythons if one in row.host_pythons)
        except EnvironmentLacksError:
            skipped.append(row.name)
            continue
        wheels = lock.row(row.name).wheels_for(version)
        files |= {one.sha256: one.size for one in wheels if not one.is_vendors}
    *missing, said = downloads("default", ("rows",))
    assert f"up to {sum(files.values()) / 1e9:.1f} GB to download" in said
    assert [line.partition(":")[0] for line in missing] == [f"row {name}" for name in skipped]


def test_complete_environments_need_no_download():
    assert list(downloads("default", ("host",))) == []


def test_all_and_only_exclude_each_other(tasks):
    done = tasks("test", "--all", "--only", "rows")
    assert done.returncode == 2
    assert "--only does not support --all" in done.stderr


def test_arguments_after_dashes_reach_pytest(tasks):
    done = tasks(
        "test", "--only", "host", "--", "--collect-only", "-q", "-k", "test_arguments_after"
    )
    assert done.returncode == 0, done.stderr
    assert "test_selftest.py::test_arguments_after_dashes_reach_pytest" in done.stdout
    assert "trtyard: tests/host: passed" in done.stderr


def test_lint_runs_every_linter_and_fails_if_one_did(monkeypatch):
    ran = []

    def run(command, *, cwd):
        ran.append(command[2:] if "-m" in command else command[1:])
        return 1 if ran[-1] == ["ruff", "check"] else 0

    monkeypatch.setattr(selftest, "run", run)
    assert run_linters() == 1
    modules = [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["codespell_lib"]]
    assert ran == [*modules, ["--no-logo"]]
