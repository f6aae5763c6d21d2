"""``doctor``: verdicts about this machine, with machines of other kinds put in its place."""

import re
import socket
from dataclasses import replace

import pytest

from trtyard.diagnose import doctor, model_check, nvidia
from trtyard.diagnose.doctor import _Place
from trtyard.diagnose.nvidia import Gpu, driver_verdict, driver_version, gpu_verdict, gpus
from trtyard.diagnose.verdicts import ok, problem, unknown
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE

ROWS = read_matrix(MATRIX_FILE).rows
RTX, FULL = ROWS["rtx-1.7"], ROWS["8.6"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes this a machine with an nvidia-smi that answers so."""
    monkeypatch.setattr(nvidia, "_PROC_FILE", tmp_path / "version")
    monkeypatch.setattr(nvidia, "first_device", lambda: None)
    monkeypatch.setattr(nvidia, "has_cuda_device", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(driver="", cards="", proc="", node=False, code=0):
        if driver or cards or code:
            script = tmp_path / "nvidia-smi"
            answer = f'case "$1" in *driver*) echo "{driver}";; *) echo "{cards}";; esac'
            script.write_text(f"#!/bin/sh\n{answer}\nexit {code}\n")
            script.chmod(0o755)
        if proc:
            (tmp_path / "version").write_text(proc)
        monkeypatch.setattr(nvidia, "has_cuda_device", lambda: node)

    return make


# The first line of the file on machines with the closed and with the open kernel module.
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.07  Sat Feb 17 22:55:48 UTC 2024\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  "
    "(dvs-builder@U22-I3-B17-02-5)  Wed Aug 27 17:39:33 UTC 2025\n"
)


@pytest.mark.parametrize(
    ("given", "version"),
    [
        ({"driver": "580.65.06"}, "580.65.06"),
        ({"proc": CLOSED}, "535.161.07"),
        ({"proc": OPEN}, "580.82.07"),
        ({"proc": CLOSED, "code": 9}, "535.161.07"),  # nvidia-smi is there and fails
        ({}, None),
    ],
)
def test_the_driver_is_asked_in_two_ways(machine, given, version):
    machine(**given)
    assert driver_version() == version


@pytest.mark.parametrize(
    ("row", "driver", "state"),
    [
        (RTX, "580.65.06", "ok"),
        (RTX, "590.10", "ok"),
        (RTX, "575.57.08", "problem"),
        (FULL, "530.30.02", "ok"),
        (FULL, "525.147.05", "can't tell"),  # minor version compatibility
        (FULL, "520.61.05", "problem"),
        (ROWS["7.0"], "440.33.01", "ok"),
        (ROWS["7.0"], "418.40.04", "problem"),
    ],
)
def test_driver_is_compared_with_the_rows_minimum(machine, row, driver, state):
    machine(driver=driver)
    verdict = driver_verdict(row)
    assert verdict.state == state
    assert driver in verdict.fact
    assert row.driver in verdict.fact
    assert bool(verdict.hint) == (state != "ok")


def test_missing_driver_fails_and_unknown_driver_is_undecided(machine):
    machine()
    assert driver_verdict(RTX).state == gpu_verdict(RTX).state == "problem"
    machine(node=True)
    assert driver_verdict(RTX).state == gpu_verdict(RTX).state == "can't tell"


def test_every_gpu_is_listed(machine):
    machine(cards="NVIDIA H100 80GB HBM3, 9.0\nNVIDIA GeForce RTX 4090, 8.9")
    assert gpus() == [
        Gpu(name="NVIDIA H100 80GB HBM3", capability="9.0"),
        Gpu(name="NVIDIA GeForce RTX 4090", capability="8.9"),
    ]


@pytest.mark.parametrize(
    ("cards", "states"),
    [
        ("NVIDIA H100 80GB HBM3, 9.0", {"rtx-1.7": "problem", "8.6": "ok", "7.0": "problem"}),
        ("NVIDIA GeForce RTX 4090, 8.9", {"rtx-1.7": "ok", "8.6": "ok", "7.0": "problem"}),
        ("Tesla T4, 7.5", {"rtx-1.7": "problem", "8.6": "ok", "7.0": "ok"}),
        ("NVIDIA H100, 9.0\nNVIDIA L4, 8.9", {"rtx-1.7": "ok"}),
    ],
)
def test_gpu_is_compared_with_supported_capabilities(machine, cards, states):
    machine(cards=cards)
    assert {name: gpu_verdict(ROWS[name]).state for name in states} == states


def place(usable):
    return _Place(verdicts=(), usable=usable)


GOOD = [ok("driver", ""), ok("GPU", "")]
NONE = [problem("driver", ""), problem("GPU", "")]


@pytest.mark.parametrize(
    ("row", "docker", "host", "device", "able", "said"),
    [
        (
            "rtx-1.7",
            False,
            True,
            NONE,
            True,
            "can build but not run engines on this machine, on the host",
        ),
        (
            "rtx-1.7",
            True,
            True,
            GOOD,
            True,
            "build and run engines on .*, in Docker and on the host",
        ),
        ("rtx-1.7", False, False, GOOD, False, "cannot run on this machine"),
        ("8.6", True, False, GOOD, True, "can build and run engines on this machine, in Docker$"),
        ("8.6", True, False, NONE, False, "export to ONNX on .*, in Docker; .* on a GPU only$"),
        ("8.6", False, True, GOOD, False, "ONNX on .*, on the host; TensorRT is missing$"),
    ],
)
def test_summary(capsys, row, docker, host, device, able, said):
    places = {"docker": place(docker), "host": place(host)}
    assert doctor._conclusion(ROWS[row], **places, device=device) == able
    assert re.search(said, capsys.readouterr().out, re.MULTILINE)


def test_without_an_engine_docker_is_a_problem_with_a_hint(monkeypatch):
    with socket.socket() as taken:  # a port where nobody listens, nor can while it is taken
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        found = doctor._docker(*row_and_lock("rtx-1.7"))
    assert not found.usable
    assert [verdict.state for verdict in found.verdicts] == ["problem"]
    assert found.verdicts[0].hint == "unset DOCKER_HOST"


def test_a_missing_interpreter_is_a_problem_with_a_hint(monkeypatch, tmp_path):
    row, lock = row_and_lock("7.0")
    monkeypatch.setattr(doctor, "existing_environment", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    found = doctor._host(row, lock)
    assert not found.usable
    assert [verdict.subject for verdict in found.verdicts] == ["interpreter"]
    assert "pyenv install 3.6" in found.verdicts[0].hint


def test_a_disk_that_is_too_small_is_a_problem(monkeypatch, tmp_path):
    assert doctor._disk("disk", tmp_path / "not" / "yet", 10, "free some").state == "ok"
    verdict = doctor._disk("disk", tmp_path, 10**18, "free some")
    assert (verdict.state, verdict.hint) == ("problem", "free some")


def test_verdict_is_one_paragraph_with_the_hint_below():
    words = problem("GPU", "word " * 40, "./run matrix\n./run doctor").in_words().splitlines()
    assert words[0].startswith("problem     GPU           word")
    assert all(len(line) <= 100 for line in words)
    assert all(line.startswith(" " * 26) for line in words[1:])
    assert [line.strip() for line in words[-2:]] == ["./run matrix", "./run doctor"]
    assert unknown("GPU", "fact").in_words() == "can't tell  GPU           fact"


def test_exit_code_agrees_with_the_summary(tasks):
    for row in ("rtx-1.7", "8.6"):
        done = tasks("doctor", "--trt", row)
        assert done.returncode == (0 if f"row {row} can build" in done.stdout else 3)
        assert "Traceback" not in done.stderr
        for line in done.stdout.splitlines():
            assert line.startswith(("ok ", "problem ", "can't tell ", " ", "row ")) or not line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "no.onnx"], "no.onnx: file not found"),
        (["--trt", "rtz"], "did you mean 'rtx'"),
    ],
)
def test_wrong_usage_exits_with_2(tasks, words, said):
    done = tasks("doctor", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def answer(op, state, number=1, failure="", said="", ops=(), names=("node",)):
    nodes = [{"node": name, "origin": f"net.py:{index}"} for index, name in enumerate(names)]
    return model_check._Answer(
        op=op, state=state, number=number, nodes=nodes, said=said, failure=failure, ops=list(ops)
    )


WHOLE = answer("", "refused", number=9, said="refuses\n  In function importNonZero\n  [8] no")


def test_refused_ops_come_with_nodes_lines_and_rows(capsys):
    kinds = [
        answer("NonZero", "refused", 2, "nonzero", names=["a", "b"]),
        answer("NonZero", "refused", 1, "nonzero", names=["c"]),
        answer("Relu", "taken", 5),
        answer("Cast", "unknown", said="its input x is empty in a trial run"),
    ]
    assert not model_check._show_answers(WHOLE, model_check._merged(kinds))
    out = capsys.readouterr().out
    assert "problem     NonZero       3 nodes: this TensorRT has no NonZero" in out
    assert "node c at net.py:0" in out
    assert "supported by: row 11.3, 10.16, 8.6" in out
    assert "ok          the others    Relu" in out
    assert "Cast: comes after a node whose output" in " ".join(out.split())


def test_op_inside_an_if_limits_the_rows(capsys):
    inner = answer("If", "refused", 1, "no-runner", ops=["NonMaxSuppression", "Add"])
    model_check._show_answers(WHOLE, [inner])
    out = " ".join(capsys.readouterr().out.split())
    assert "its subgraphs have NonMaxSuppression, Add" in out
    assert "supported by: row 11.3, 10.16, 8.6 (" in out


def test_op_without_known_release_recommends_none(capsys):
    model_check._show_answers(WHOLE, [answer("Unique", "refused", 1, "standard-op-unsupported")])
    assert "supported by" not in capsys.readouterr().out


def test_refused_model_of_supported_nodes_shows_the_log(capsys):
    assert not model_check._show_answers(WHOLE, [answer("Relu", "taken")])
    out = capsys.readouterr().out
    assert "problem     the model     In function importNonZero [8] no" in out


def test_row_that_cannot_build_here_is_judged_by_its_release(capsys):
    assert not model_check._show_facts(ROWS["7.0"], ["Relu", "NonZero", "Einsum"])
    out = " ".join(capsys.readouterr().out.split())
    assert "problem NonZero TensorRT 7.0.0.11 does not have it" in out
    assert "problem Einsum" in out
    assert "no known problem with Relu; not parsed or built with this release" in out
    assert model_check._show_facts(ROWS["8.6"], ["Relu", "NonZero", "Einsum"])


def test_ops_are_built_by_a_row_that_needs_no_gpu():
    assert model_check._builder_row(FULL).name == model_check._builder_row(RTX).name == "rtx-1.7"
    assert replace(FULL, executors=("docker",)).host_until is None
