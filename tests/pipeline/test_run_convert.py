"""The whole command, ``./run convert``, on a small model of the user's own."""

import json
import os
import shlex
import signal
import subprocess
import xml.etree.ElementTree as Tree
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


def start(stand, model, *words, inputs="1x3x8x8", task="convert"):
    command = ["sh", ROOT / "run", task, "--in", "host", "--model", model]
    command += ["--input", inputs, "--out", "results", *words]
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


WITH_ARGUMENTS = """\
import atexit
import os
import torch

print("imported")
os.chdir("/")


class Net(torch.nn.Module):
    def __init__(self, width, *, name="it's"):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, width, 3)

    def forward(self, x, mask=None, *, bias=None):
        return self.layer(x) + bias


def leaves(code):
    os._exit(code)


def leaves_at_exit(code):
    atexit.register(os._exit, code)
    os.close(1)
    return torch.nn.Linear(4, 3)
"""


@pytest.mark.slow
def test_arguments_and_names_reach_the_model_and_the_report(stand):
    (stand / "called.py").write_text(WITH_ARGUMENTS)
    model = """called.py:Net(5, name='a "b" \\n')"""
    inputs = "bias=1x5x6x6,x=1x3x8x8"
    child = start(stand, model, "--until", "onnx", inputs=inputs)
    said = finish(child)
    assert child.returncode == 0, said
    assert "imported" in said
    report = json.loads((stand / "results" / "report.json").read_text())
    assert report["model"] == model
    words = shlex.split(report["command"])
    assert words[words.index("--model") + 1] == model
    assert words[words.index("--input") + 1] == inputs
    assert [one["name"] for one in report["inputs"]["tensors"]] == ["x", "bias"]
    assert json.loads((stand / "results" / "request.json").read_text())["model"] == model
    junit = Tree.parse(stand / "results" / "junit.xml").getroot()  # noqa: S314 - our own
    assert junit.get("name") == f"{model} rtx-1.7"


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_model_that_ends_the_process_leaves_no_report(stand, code):
    (stand / "called.py").write_text(WITH_ARGUMENTS)
    child = start(stand, f"called.py:leaves({code})")
    said = finish(child)
    assert child.returncode == 4, said
    assert f"ended with exit code {code} and left no report" in said
    assert not (stand / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "words", "key", "shown"),
    [
        ("bench", ["--until", "onnx", "--runs", "10", "--seconds", "1"], "latency", "Latency"),
        ("bisect", [], "bisection", "Where they diverge"),
    ],
)
def test_bench_and_bisect_show_their_results(stand, task, words, key, shown):
    child = start(stand, "nets.py:net", *words, task=task)
    said = finish(child)
    assert child.returncode == 0, said
    assert json.loads((stand / "results" / "report.json").read_text())[key]
    assert shown in (stand / "results" / "report.html").read_text()


@pytest.mark.slow
def test_the_exit_code_is_the_conversions_own(stand):
    (stand / "called.py").write_text(WITH_ARGUMENTS)
    child = start(stand, "called.py:leaves_at_exit(5)", "--until", "onnx", inputs="1x4")
    said = finish(child)
    assert child.returncode == 0, said
    assert "export: " in said
    assert "its process ended with exit code 5 after the conversion" in said
    assert (stand / "results" / "report.html").is_file()


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
