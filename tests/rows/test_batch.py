"""``batch`` on this machine, with real conversions of a small net."""

import json
import signal
import subprocess
import sys
import time

import pytest

from trtyard.system.uv import ROOT

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
    Path("started").touch()
    time.sleep(600)


def ends():
    os._exit(0)
"""


@pytest.fixture
def start(tmp_path, environment_of):
    environment_of("default")
    (tmp_path / "net.py").write_text(NET)

    def start_with(*models, words=()):
        text = f"[[jobs]]\nmodels = {json.dumps([f'net.py:{one}' for one in models])}\n"
        options = 'input = "2x4"\nuntil = "onnx"\nin = "host"\n'
        (tmp_path / "jobs.toml").write_text(text + options)
        command = [sys.executable, "-I", str(MAIN), "batch", "jobs.toml", "--out", "out", *words]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_with


def result(command):
    out, err = command.communicate(timeout=300)
    return command.returncode, out, err


def test_finished_conversions_are_skipped_until_something_changes(start, tmp_path):
    code, out, said = result(start("Net", "ends", words=["--workers", "2"]))
    assert code == 4, said
    assert "failed (4): the conversion failed" in out
    [report] = (tmp_path / "out").rglob("report.json")
    assert json.loads(report.read_text())["verdict"]["exit_code"] == 0
    assert report.parent.name in report.parents[2].joinpath("index.html").read_text()
    assert "agree within the tolerances" in (report.parent / "convert.log").read_text()

    written = report.stat().st_mtime_ns
    code, out, said = result(start("Net"))
    assert (code, report.stat().st_mtime_ns) == (0, written)
    assert "1 conversion, 1 finished already" in said
    assert "passed" in out

    (tmp_path / "net.py").write_text(f"{NET}\n")
    code, out, _ = result(start("Net", words=["--dry-run"]))
    assert code == 0
    assert f"would run: changed: {tmp_path / 'net.py'}" in out
    code, out, said = result(start("Net"))
    assert code == 0
    assert f"(changed: {tmp_path / 'net.py'})" in said
    assert report.stat().st_mtime_ns != written

    _, out, _ = result(start("Net", words=["--dry-run", "--again"]))
    assert "would run: --again" in out


def test_ctrl_c_ends_all_and_leaves_nothing_half_written(start, tmp_path):
    command = start("waits")
    deadline = time.monotonic() + 120
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    command.send_signal(signal.SIGINT)
    code, _, said = result(command)
    assert code == 130, said
    assert "interrupted" in said
    [folder] = (tmp_path / "out" / "rtx-1.7").iterdir()
    assert [one.name for one in folder.iterdir()] == ["convert.log"]
    assert "interrupted" in (folder / "convert.log").read_text()
