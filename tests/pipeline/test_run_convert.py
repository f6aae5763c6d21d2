"""The whole command, ``./run convert``, on a small model of the user's own."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NETS = """\
import torch
from helper import WIDTH


def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, WIDTH, 3), torch.nn.ReLU())
"""


@pytest.fixture
def stand(tmp_path):
    """Return a folder to stand in, with a model that imports its neighbour."""
    folder = tmp_path / "user's folder"
    (folder / "pkg").mkdir(parents=True)
    (folder / "nets.py").write_text(NETS)
    (folder / "pkg" / "nets.py").write_text(NETS)
    (folder / "helper.py").write_text("WIDTH = 4\n")
    return folder


def start(stand, model, *words):
    command = ["sh", ROOT / "run", "convert", "--in", "host", "--model", model]
    command += ["--input", "1x3x8x8", "--out", "results", *words]
    # As from a shell: with no variable that this test's own environment was given.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.Popen(
        command,
        cwd=stand,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(child):
    with child:
        said, _ = child.communicate(timeout=300)
    return said


@pytest.mark.slow
def test_own_model_converts_from_the_working_folder(stand):
    child = start(stand, "pkg.nets:net")
    said = finish(child)
    assert child.returncode == 0, said
    report = json.loads((stand / "results" / "report.json").read_text())
    assert report["model"] == "pkg.nets:net"
    assert report["executor"] == "host"
    status = {stage["name"]: stage["status"] for stage in report["stages"]}
    assert status["onnxruntime"] == status["engine"] == "passed"
    assert "warning" not in said.lower()


def test_interrupt_leaves_nothing_and_a_rerun_works(stand):
    for stage in ("torch:", "export:"):
        child = start(stand, "nets.py:net")
        for line in child.stdout:
            if line.startswith(stage):
                break
        os.kill(child.pid, signal.SIGINT)
        finish(child)
        assert child.returncode == 130
        assert not (stand / "results").exists()
    child = start(stand, "nets.py:net")
    said = finish(child)
    assert child.returncode == 0, said
    assert not list((stand / "results").glob(".*"))
