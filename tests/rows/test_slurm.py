"""``batch --on slurm`` on a real cluster, which the test starts on loopback."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from slurm_cluster import Cluster, why_not

from trtyard.system.uv import ROOT

REQUIRE_SLURM = "TRTYARD_REQUIRE_SLURM"  # 1: without Slurm the tests fail, as in CI
MAIN = ROOT / "trtyard" / "__main__.py"

NET = """
import os
import time
from pathlib import Path

import torch


class Net(torch.nn.Module):
    def forward(self, values):
        return values * 2


def waits():
    Path("started").write_text(os.environ["SLURMD_NODENAME"])
    while not Path("go").exists():
        time.sleep(0.1)
    return Net()


def killed_once():
    if not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), 9)
    return Net()


def ends():
    os._exit(0)
"""
OPTIONS = 'input = "2x4"\nuntil = "onnx"\nin = "host"\n'
ENGINES = 'input = "2x4"\nin = "host"\n'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, environment_of):
    problem = why_not()
    if problem is not None:
        if os.environ.get(REQUIRE_SLURM) == "1":
            pytest.fail(f"{REQUIRE_SLURM} is 1, but: {problem}")
        pytest.skip(problem)
    environment_of("default")
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "a folder, 100% (été)"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    return folder


def write_jobs(folder, *models, options=OPTIONS):
    text = f"[[jobs]]\nmodels = {json.dumps([f'net.py:{one}' for one in models])}\n{options}"
    (folder / "jobs.toml").write_text(text)


_started = []


@pytest.fixture(autouse=True)
def ended():
    """End the commands that a failed test leaves."""
    yield
    for command in _started:
        command.kill()
        command.communicate()
    _started.clear()


def start(cluster, work, *words):
    command = [sys.executable, "-I", str(MAIN), "batch", "jobs.toml", "--on", "slurm"]
    started = subprocess.Popen(
        [*command, "--out", "out", *words],
        cwd=work,
        env={**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.append(started)
    return started


def run(cluster, work, *words):
    command = start(cluster, work, *words)
    out, err = command.communicate(timeout=300)
    return command.returncode, out, err


def until(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def folders(work):
    found = {one.name.partition("-fp32")[0]: one for one in (work / "out" / "rtx-1.7").iterdir()}
    return {name.removeprefix("net.py-"): folder for name, folder in found.items()}


def test_array_survives_a_lost_node_kills_and_ctrl_c(cluster, work):
    write_jobs(work, "Net", "waits", "killed_once", "ends")
    first = start(cluster, work)
    until((work / "started").exists)

    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "goes on without this command" in said
    assert "cancel it: scancel" in said
    assert said.count("submitted Slurm array") == 1

    again = start(cluster, work)
    node = (work / "started").read_text()
    cluster.lose(node)
    (work / "started").unlink()
    (work / "go").touch()
    until(lambda: cluster.run_requeued() or (work / "started").exists())
    out, said = again.communicate(timeout=300)

    assert again.returncode == 4, said
    assert "which an earlier command submitted" in said
    # Only what was killed: not the lost node's conversions, not the one that failed.
    assert said.count("submitted Slurm array") == 1
    assert "1 conversion submitted again" in said
    found = folders(work)
    for name in ("Net", "waits", "killed_once"):
        report = json.loads((found[name] / "report.json").read_text())
        assert report["verdict"]["exit_code"] == 0
        assert (found[name] / "report.html").is_file()
        assert found[name].name in (work / "out" / "index.html").read_text()
    assert "attempt 2 on" in (found["waits"] / "convert.log").read_text()
    assert "was killed by SIGKILL" not in (found["killed_once"] / "convert.log").read_text()
    assert "failed (4): the conversion failed" in out
    assert f"log of 3: {found['ends'] / 'convert.log'}" in said

    write_jobs(work, "Net", "waits", "killed_once")
    code, out, said = run(cluster, work)
    assert code == 0, said
    assert "submitted" not in said
    assert out.count("passed") == 3
    cluster.start_node(node)


def test_cancelled_array_is_not_submitted_again(cluster, work):
    write_jobs(work, "waits")
    command = start(cluster, work)
    until((work / "started").exists)
    cluster.said("scancel", "--user=root")
    out, said = command.communicate(timeout=60)
    assert command.returncode == 3, said
    assert "failed (130): cancelled" in out
    assert said.count("submitted Slurm array") == 1


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], "cc8.6|gres:gpu:1"),
        (["--constraint", "none"], "(null)|gres:gpu:1"),
        (["--gpus", "0"], "(null)|N/A"),
        (["--", "--gres=gpu:0"], "cc8.6|gres:gpu:0"),
    ],
)
def test_engines_need_a_gpu_that_the_row_runs_on(cluster, work, words, asked):
    write_jobs(work, "waits", options=ENGINES)
    command = start(cluster, work, *words)
    until(lambda: cluster.said("squeue", "-h"))
    found = cluster.said("squeue", "-h", "-o", "%f|%b")
    cluster.said("scancel", "--user=root")
    command.communicate(timeout=60)
    assert found == asked


def _features(name):
    return f"AvailableFeatures={name}", f"ActiveFeatures={name}"


def test_row_without_a_suitable_node_is_an_error(cluster, work):
    write_jobs(work, "Net", options=ENGINES)
    cluster.said("scontrol", "update", "NodeName=n1,n2", *_features("cc9.0"))
    code, _, said = run(cluster, work)
    cluster.said("scontrol", "update", "NodeName=n1,n2", *_features("cc8.6"))
    assert code == 3
    assert "no node of this cluster has one of the features cc8.0, cc8.6" in said
    assert "--constraint none" in said


@pytest.mark.parametrize(
    ("options", "words", "said"),
    [
        (OPTIONS, ["--", "--partition=none"], "invalid partition specified: none"),
        (OPTIONS, ["--constraint", "unknown"], "Invalid feature specification"),
        (ENGINES, ["--gpus", "9"], "Requested node configuration is not available"),
        (ENGINES, ["--constraint", "cc9.9"], "Invalid feature specification"),
    ],
)
def test_refused_array_is_an_error_with_slurms_words(cluster, work, options, words, said):
    write_jobs(work, "Net", options=options)
    code, _, printed = run(cluster, work, *words)
    assert code == 3
    assert "Slurm refused the array: " in printed
    assert said in printed
    assert not (work / "out" / "slurm.json").exists()
