"""The lock of a conversion, between real processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.output_lock import held, is_held
from trtyard.run import convert as convert_module
from trtyard.run.convert import end_orphans, output_folder
from trtyard.system.uv import ROOT

HOLDS = """
import os, sys, time
from pathlib import Path
from trtyard.core.output_lock import held
with held(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() > 0:
        sys.stdin.read(1)
        sys.exit()
    print(os.getpid(), flush=True)
    time.sleep(60)
"""
# A conversion that takes its time, started by a command that says which process it is.
PIPELINE = """
import sys, time
from trtyard.pipeline import cli
cli.read_row = lambda _: None
cli._convert = lambda *_: time.sleep(60)
out, parent = sys.argv[1:]
words = ["convert", "--row-file", "x", "--model", "x", "--executor", "host"]
print("starts", flush=True)
sys.exit(cli.main([*words, "--out", out, "--parent", parent]))
"""
COMMAND = """
import os, subprocess, sys
words = [sys.executable, "-c", sys.argv[1], sys.argv[2], sys.argv[3] or str(os.getpid())]
child = subprocess.Popen(words, start_new_session=True)
print(child.pid, flush=True)
sys.exit(child.wait())
"""


def start(*words):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", *map(str, words)], cwd=ROOT, text=True, **pipes)


@contextmanager
def holder(folder, *words):
    with start(HOLDS, folder, *words) as child:
        try:
            yield child, int(child.stdout.readline())
        finally:
            child.kill()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_second_conversion_into_a_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    names = [tmp_path / "out", tmp_path / "link", tmp_path / "link" / ".." / "out"]
    with holder(tmp_path / "out"):
        for name in names:
            assert is_held(name)
            with pytest.raises(EnvironmentLacksError, match="another conversion"), held(name):
                pass
        assert not is_held(tmp_path)
    for name in names:
        assert not is_held(name)
        with held(name):
            pass


def test_new_empty_folder_is_removed(tmp_path):
    with held(tmp_path / "row" / "model"):
        assert is_held(tmp_path / "row" / "model")
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "row" / "model"):
        (tmp_path / "row" / "model" / "report.json").touch()
    (tmp_path / "row" / "mine").mkdir()
    with held(tmp_path / "row" / "mine"):
        pass
    assert (tmp_path / "row" / "model" / "report.json").exists()
    assert (tmp_path / "row" / "mine").exists()


def test_killed_conversion_releases_the_folder(tmp_path):
    with holder(tmp_path) as (child, _):
        child.kill()
        child.wait()
        assert not is_held(tmp_path)


@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_forked_process_does_not_hold_the_folder(tmp_path, ends):
    with holder(tmp_path, "fork") as (child, forked):
        try:
            assert is_held(tmp_path)
            if ends == "killed":
                child.kill()
            else:
                child.stdin.close()
            child.wait()
            assert Path(f"/proc/{forked}").exists()
            assert not is_held(tmp_path)
        finally:
            os.kill(forked, signal.SIGKILL)


def test_folder_in_use_is_not_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "_ORPHAN_SECONDS", 0.2)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    (tmp_path / ".partial-model").mkdir()
    with (
        holder(tmp_path),
        pytest.raises(EnvironmentLacksError, match="from another command"),
        output_folder(tmp_path, end_orphans),
    ):
        pass
    assert (tmp_path / ".partial-model").is_dir()
    with output_folder(tmp_path, end_orphans):
        assert not list(tmp_path.iterdir())


def test_host_conversion_ends_with_its_parent_command(tmp_path):
    with start(COMMAND, PIPELINE, tmp_path, "") as command:
        pid = int(command.stdout.readline())
        try:
            until(lambda: is_held(tmp_path))
            command.kill()
            until(lambda: not is_held(tmp_path))
            assert not Path(f"/proc/{pid}/exe").exists()
        finally:
            if Path(f"/proc/{pid}/exe").exists():
                os.kill(pid, signal.SIGKILL)


def test_conversion_does_not_start_without_its_parent(tmp_path):
    with start(COMMAND, PIPELINE, tmp_path, "1") as command:
        out, err = command.communicate(timeout=60)
    assert command.returncode == 3, out + err
    assert "the command that started this conversion was killed" in err
