"""A conversion with its latencies, from the pipeline's command line."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from default_row import ROW
from torch._inductor import config as inductor

from trtyard.core.cuda_device import first_device
from trtyard.pipeline import cli

ROOT = Path(__file__).resolve().parents[3]
NETS = """
import time

import torch


def linear():
    return torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Tanh())


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + 0 * self.calls


class Worn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.left = 40

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.left -= 1
            if self.left < 0:
                raise ValueError("worn out")
        return x * 2


class Sleeping(torch.nn.Module):
    def forward(self, x):
        if not torch.compiler.is_compiling():
            time.sleep(0.02)
        print("a line in every run")
        return x * 2


class OnePicture(torch.nn.Module):
    def forward(self, x):
        if x.shape[0] != 1:
            raise ValueError("one at a time, please")
        return x * 2


class Large(torch.nn.Module):
    def forward(self, x):
        return torch.empty(x.shape[0], 1 << 20).fill_(1.0).sum(1) + x.sum(1)


class Constant(torch.nn.Module):
    def forward(self, x):
        return x.sum(0, keepdim=True)
"""
pytestmark = pytest.mark.skipif(first_device() is not None, reason="tests the CPU's timings")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with models and a row; torch.compile finds no C++ compiler."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    monkeypatch.chdir(tmp_path)
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        yield tmp_path


def words(model, *options):
    fixed = ["--row-file", "row.json", "--executor", "host", "--out", "out"]
    return ["bench", "--model", model, *fixed, "--until", "onnx", *options]


def bench(name, *options, runs="10", model="nets.py:{}"):
    code = cli.main(words(model.format(name), "--runs", runs, "--seconds", "1", *options))
    return code, json.loads(Path("out/report.json").read_text())


def timings(report):
    return {
        (each["runtime"], each["precision"], each["batch"]): each
        for each in report["latency"]["timings"]
    }


def test_every_runtime_is_timed_or_says_why_not(place, capfd):
    code, report = bench("linear", "--input", "1x4", "--batch", "8,1", runs="100")
    assert code == 0
    found = timings(report)
    assert [batch for _, _, batch in found] == [1] * 4 + [8] * 4
    for runtime in ("torch", "onnxruntime"):
        for batch in (1, 8):
            each = found[runtime, "fp32", batch]
            assert (each["runs"], each["device"], each["reason"]) == (100, "cpu", None)
            assert 0 < each["median_ms"] <= each["p99_ms"] <= each["longest_ms"]
            assert each["items_per_second"] > 0
            assert each["ready_seconds"] > 0
    for runtime, said in (("torch-compiled", "compiler"), ("tensorrt", "asked to stop after onnx")):
        each = found[runtime, "fp32", 8]
        assert (each["runs"], each["median_ms"]) == (0, None)
        assert said in each["reason"]
    latency = report["latency"]
    assert latency["threads"] == torch.get_num_threads()
    assert latency["rounds"] == 10
    assert latency["processor"]
    assert report["command"].startswith("./run bench --model nets.py:linear")
    assert "--batch 1,8" in report["command"] or "--batch 8,1" in report["command"]
    assert "latency: batch 8" in capfd.readouterr().out
    left = {path.name for path in (place / "out").iterdir()}
    assert left == {"model.onnx", "report.json", "request.json"}


def test_default_batch_is_that_of_the_inputs(place):
    _, report = bench("linear", "--input", "3x4")
    assert {batch for _, _, batch in timings(report)} == {3}


@pytest.mark.slow
def test_range_is_timed_with_the_same_file(place):
    _, report = bench("linear", "--input", "1..8x4", "--batch", "2,8,9")
    found = timings(report)
    assert found["onnxruntime", "fp32", 2]["runs"] == found["torch", "fp32", 8]["runs"] == 10
    assert "range 1..8" in found["torch", "fp32", 9]["reason"]
    assert "range 1..8" in found["tensorrt", "fp32", 9]["reason"]


def started(*options):
    """Start it as a process: pytest's own capture does not see what is printed to nowhere."""
    return subprocess.Popen(
        [sys.executable, "-m", "trtyard.pipeline", *words("nets.py:Sleeping", *options)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_sleeping_model_takes_its_time_and_prints_nothing(place):
    child = started("--input", "1x4", "--runs", "12")
    said, complaints = child.communicate()
    assert (child.returncode, complaints) == (0, "")
    assert said.count("a line in every run") < 5  # of the stages
    found = timings(json.loads(Path("out/report.json").read_text()))
    assert found["torch", "fp32", 1]["median_ms"] >= 20
    assert found["torch", "fp32", 1]["items_per_second"] <= 50


@pytest.mark.slow
def test_state_in_buffers_is_restored(place):
    code, report = bench("Counting", "--input", "1x4", "--batch", "1,2")
    found = timings(report)
    assert code == 0
    assert [found["torch", "fp32", batch]["runs"] for batch in (1, 2)] == [10, 10]
    (stage,) = [one for one in report["stages"] if one["name"] == "torch"]
    assert "buffers changed" in stage["note"]


@pytest.mark.slow
def test_model_that_wears_out_is_not_shown_as_measured(place):
    code, report = bench("Worn", "--input", "1x4", runs="200")
    found = timings(report)
    assert code == 0
    assert "worn out" in found["torch", "fp32", 1]["reason"]
    assert found["torch", "fp32", 1]["runs"] == 0
    assert found["onnxruntime", "fp32", 1]["runs"] == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "said"),
    [
        ("OnePicture", "1,8", "one at a time, please"),
        ("Constant", "1,8", "computes no batch"),
        ("Large", "1,1000000", "allocate"),
    ],
)
def test_batch_that_fails_leaves_the_smaller_one(place, name, batch, said):
    code, report = bench(name, "--input", "1x4", "--batch", batch)
    found = timings(report)
    large = int(batch.split(",")[1])
    assert code == 0
    assert found["torch", "fp32", 1]["runs"] == found["onnxruntime", "fp32", 1]["runs"] == 10
    reasons = [each["reason"] for (_, _, size), each in found.items() if size == large]
    assert len(reasons) == 4
    assert all(reasons)
    assert said in found["torch", "fp32", large]["reason"]


@pytest.mark.slow
def test_reduced_precision_is_timed_at_the_batch_of_its_file(place):
    code, report = bench(
        "linear", "--input", "1x4", "--batch", "1,2", "--precision", "fp32,fp16,bf16"
    )
    found = timings(report)
    assert code == 0
    assert found["onnxruntime", "fp16", 1]["runs"] == 10
    assert "give a range such as --input 1..8" in found["onnxruntime", "fp16", 2]["reason"]
    assert "no bfloat16 kernels" in found["onnxruntime", "bf16", 1]["reason"]
    assert found["onnxruntime", "fp32", 2]["runs"] == 10


@pytest.mark.slow
def test_onnx_file_is_timed_in_onnx_runtime(place):
    bench("linear", "--input", "1..8x4")
    Path("out/model.onnx").rename("open.onnx")
    code, report = bench("", "--input", "2x4", "--batch", "2,4", model="open.onnx")
    found = timings(report)
    assert code == 0
    assert found["torch", "fp32", 2]["reason"] == "the model is an ONNX file"
    assert [found["onnxruntime", "fp32", batch]["runs"] for batch in (2, 4)] == [10, 10]


@pytest.mark.slow
def test_compiled_model_is_timed(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(place / "triton"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with inductor.patch({"cpp.cxx": (None, "g++")}):
        _, report = bench("linear", "--input", "1x4")
    assert timings(report)["torch-compiled", "fp32", 1]["runs"] == 10
    assert sorted(path.name for path in place.iterdir()) == ["nets.py", "out", "row.json"]
    assert os.environ["TRITON_CACHE_DIR"] == str(place / "triton")
    left = os.environ.get("TORCHINDUCTOR_CACHE_DIR")  # torch itself may set its default again
    assert left is None or left.startswith(tempfile.gettempdir() + "/torchinductor_")


@pytest.mark.slow
def test_interruption_leaves_the_folder_as_it_was(place):
    bench("linear", "--input", "1x4")
    before = {path: path.read_bytes() for path in (place / "out").iterdir()}
    child = started("--input", "1x4", "--runs", "100000", "--seconds", "600")
    for line in child.stdout:
        if line.startswith("latency:"):
            break
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130, said
    assert "interrupted" in said
    assert {path: path.read_bytes() for path in (place / "out").iterdir()} == before
