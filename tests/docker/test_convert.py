import gc
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, run_task

from trtyard.build.local_base import make_bases
from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.output_lock import is_held
from trtyard.core.request import ConversionRequest
from trtyard.lock.file import read_lock
from trtyard.run.in_docker import (
    LABEL,
    OUT_PATH,
    _container,
    caller_on,
    end_orphans,
    places_of,
    settings_of,
)
from trtyard.run.job import Job
from trtyard.run.limits import Limits
from trtyard.system.uv import LOCK_FILE

# What a conversion can see and do, from inside.
PROBE = """
import ctypes, json, os, shutil, socket, sys

def refused(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.errno
    return 0

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
mounted = [line.split()[4].replace(r"\\040", " ") for line in open("/proc/self/mountinfo")]
temporary = os.path.join(os.environ["HOME"], "true")
shutil.copy("/bin/true", temporary)
found = {
    "uid": os.getuid(), "gid": os.getgid(),
    "links": [name for _, name in socket.if_nameindex()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "mounted": [path for path in mounted if path.startswith("/mnt")],
    "root": [refused(path) for path in ("/etc/x", "/opt/trtyard/x", "/x", sys.argv[2])],
    "temporary": os.system(temporary),
}
json.dump(found, open(sys.argv[1] + "/found.json", "w"))
"""
READ_ONLY = 30  # errno.EROFS
LIMITS = Limits(memory=2 << 30, processes=1000)


@pytest.fixture
def job(row, out_folder, tmp_path):
    picture = tmp_path / "a picture.png"
    picture.write_bytes(b"no picture")
    return Job(
        row=row,
        locked=read_lock(LOCK_FILE).row(row.name),
        request=ConversionRequest(model="alexnet"),
        out=out_folder,
        image=picture,
    )


def test_conversion_container_has_least_privilege(engine, image, job, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 12345)  # a user that the image does not know
    monkeypatch.setattr("os.getgid", lambda: 23456)
    job.out.chmod(0o777)
    places = places_of(job)
    words = ["-c", PROBE, OUT_PATH, places[job.image]]
    settings = {**settings_of(job, places, LIMITS), **caller_on(engine.info())}
    engine.containers.run(image, words, entrypoint="python", remove=True, **settings)
    found = json.loads((job.out / "found.json").read_text())
    assert (found["uid"], found["gid"]) == (12345, 23456)
    assert (job.out / "found.json").stat().st_uid == 12345
    assert found["links"] == ["lo"]
    assert found["capabilities"] == 0
    assert found["no_new_privileges"] == 1
    assert sorted(found["mounted"]) == sorted(places.values())
    assert found["root"] == [READ_ONLY] * 4
    assert found["temporary"] == 0


def test_alexnet_converts_and_skipped_stages_are_not_passed(tree, image, out_folder):
    done = run_task(
        "convert", "--model", "alexnet", "--in", "docker", "--out", str(out_folder), root=tree
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((out_folder / "report.json").read_text())
    assert report["executor"] == "docker"
    stages = {stage["name"]: stage["status"] for stage in report["stages"]}
    for name in ("torch", "export", "onnxruntime", "engine"):
        assert stages[name] == "passed"
    assert report["parity"]
    assert all(pair["passed"] for pair in report["parity"])
    assert (stages["tensorrt"] == "passed") == Path("/dev/nvidiactl").exists()
    for name in ("model.onnx", "model.engine", "model.engine.json", "report.html", "junit.xml"):
        assert (out_folder / name).stat().st_size > 0


@pytest.fixture
def base(engine, row):
    """Return the name of an image with a shell."""
    return make_bases(row, read_lock(LOCK_FILE).row(row.name))[0].image


def test_container_that_exits_at_once_does_not_hang(engine, base):
    words = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    for _ in range(3):
        with _container(engine, base, words, {"network_mode": "none"}) as (container, output):
            said = []
            reading = threading.Thread(target=said.extend, args=(output,), daemon=True)
            reading.start()
            reading.join(timeout=30)
            assert not reading.is_alive()
            assert sorted(b"".join(said).split()) == [b"err", b"out"]
            assert container.wait()["StatusCode"] == 7
    gc.collect()  # a connection that was left open is told now, and not in another test


def test_container_of_a_killed_run_is_stopped_first(engine, base, job, tmp_path):
    (tmp_path / "other").mkdir()
    started = []
    try:
        for out in (job.out, tmp_path / "other"):
            one = replace(job, out=out)
            settings = {**settings_of(one, places_of(one), LIMITS), **caller_on(engine.info())}
            command = ["sleep", "100"]
            started.append(engine.containers.run(base, command, detach=True, **settings))
        (tmp_path / "link").symlink_to(job.out)
        end_orphans(tmp_path / "link" / ".." / "out")
        here = {container.id for container in engine.containers.list(all=True)}
        assert [container.id in here for container in started] == [False, True]
    finally:
        end_orphans(job.out)
        end_orphans(tmp_path / "other")


def test_paths_with_a_colon_or_a_comma_are_mounted(engine, base, job, tmp_path):
    for name in ("2026-11-24T16:00", "a,b", "é\n"):
        out = tmp_path / name
        out.mkdir()
        words = ["sh", "-c", f"echo done > {OUT_PATH}/file"]
        one = replace(job, out=out)
        settings = {**settings_of(one, places_of(one), LIMITS), **caller_on(engine.info())}
        engine.containers.run(base, words, remove=True, **settings)
        assert (out / "file").read_text() == "done\n"


def test_engine_without_access_to_local_files_is_an_error(engine, base, job, tmp_path):
    one = replace(job, out=tmp_path / "elsewhere")
    one.out.mkdir()
    settings = settings_of(one, places_of(one), LIMITS)
    one.out.rmdir()  # as for an engine that has other files
    with (
        pytest.raises(
            EnvironmentLacksError, match="cannot mount folders of this machine"
        ) as caught,
        _container(engine, base, ["true"], settings),
    ):
        pass
    assert "--in host" in caught.value.hint
    assert not (tmp_path / "elsewhere").exists()


def test_the_pipelines_exit_code_and_message_pass_through(tree, image, out_folder, tmp_path):
    picture = tmp_path / "empty.png"
    picture.touch()
    words = ["convert", "--model", "alexnet", "--in", "docker", "--out", str(out_folder)]
    done = run_task(*words, "--image", str(picture), root=tree)
    assert done.returncode == 2
    assert str(picture) in done.stderr
    assert OUT_PATH not in done.stderr
    assert not out_folder.exists() or not any(out_folder.iterdir())


def test_own_model_gets_only_its_file_mounted(tree, image, out_folder, tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch\n\n\n"
        "def make():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n"
    )
    words = ["--model", f"{file}:make", "--input", "1x3x16x16", "--in", "docker"]
    done = run_task("convert", *words, "--out", str(out_folder), root=tree)
    assert done.returncode == 0, done.stderr
    assert (out_folder / "model.onnx").stat().st_size > 0


NETS = """
import os, threading, time
import torch

class Net(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, channels, 3)

    def forward(self, x):
        return torch.relu(self.layer(x)) * 2

def quick():
    return Net(4)

def slow():
    time.sleep(30)
    return Net(5)

def large():
    kept = [bytearray(1 << 28) for _ in range(20)]
    return Net(len(kept))

def many():
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
    return Net(6)

def full():
    with open("/tmp/large", "wb") as file:
        while True:
            file.write(bytes(1 << 24))

def crash():
    os.abort()
"""


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "my nets.py"
    file.write_text(NETS)
    return file


def of_net(file, name, out):
    words = ["convert", "--model", f"{file}:{name}", "--input", "1x3x16x16"]
    return [*words, "--in", "docker", "--out", str(out)]


def test_killed_conversion_does_not_overwrite_the_next(engine, tree, image, out_folder, nets):
    (out_folder.parent / "link").symlink_to(out_folder)
    command = [sys.executable, "-I", str(tree / "trtyard" / "__main__.py")]
    child = subprocess.Popen([*command, *of_net(nets, "slow", out_folder)], env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 60
        while not is_held(out_folder):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert containers(engine, out_folder)
    finally:
        child.kill()
        child.wait()
    done = run_task(*of_net(nets, "quick", out_folder.parent / "link"), root=tree)
    assert done.returncode == 0, done.stderr
    assert "of a killed run" in done.stderr
    assert not containers(engine, out_folder)
    report = json.loads((out_folder / "report.json").read_text())
    assert report["model"] == f"{nets}:quick"


def test_reports_name_paths_of_this_machine(tree, image, out_folder, nets):
    done = run_task(*of_net(nets, "quick", out_folder), "--until", "onnx", root=tree)
    assert done.returncode == 0, done.stderr
    report = json.loads((out_folder / "report.json").read_text())
    assert report["command"].startswith(f"./run convert --model '{nets}:quick' --trt rtx-1.7")
    for file in out_folder.iterdir():
        assert b"/mnt/" not in file.read_bytes(), file
    assert (
        f'File "{nets}", line 11, in forward'.encode() in (out_folder / "model.onnx").read_bytes()
    )


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("large", ["--memory", "1500m"], "the container hit its memory limit of 1.6 GB"),
        (
            "many",
            ["--processes", "100"],
            "the container hit its limit of 100 processes and threads",
        ),
        ("full", ["--memory", "1g"], "filled its temporary folder of 0.5 GB"),
    ],
)
def test_exceeded_limit_is_reported(engine, tree, image, out_folder, nets, name, options, said):
    done = run_task(*of_net(nets, name, out_folder), *options, root=tree)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert f"raise it: {options[0]}" in done.stderr
    assert not containers(engine, out_folder)


def test_crash_is_shown_by_the_fault_handler(tree, image, out_folder, nets, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "PYTHONFAULTHANDLER", "1")
    done = run_task(*of_net(nets, "crash", out_folder), root=tree)
    assert done.returncode == 4
    assert "and left no report" in done.stderr
    assert f'File "{nets}", line 35 in crash' in done.stderr


def test_ctrl_c_removes_container_and_partial_files(engine, tree, image, out_folder):
    command = [sys.executable, "-I", str(tree / "trtyard" / "__main__.py"), "convert"]
    command += ["--model", "alexnet", "--in", "docker", "--out", str(out_folder)]
    child = subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        # The first stage's line: the pipeline is at work.
        assert any(line.startswith("export:") for line in child.stderr)
        assert containers(engine, out_folder)
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
        assert child.wait(timeout=60) == 130, rest
    finally:
        child.kill()
        child.stderr.close()
    assert "Traceback" not in rest
    deadline = time.monotonic() + 10
    while containers(engine, out_folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not containers(engine, out_folder)
    left = {file.name for file in out_folder.iterdir()} if out_folder.exists() else set()
    assert not {name for name in left if name.startswith(".partial-") or name == "report.json"}


def containers(engine, out_folder):
    """Return those of the conversions into that folder; others may come and go meanwhile."""
    listed = engine.api.containers(all=True, filters={"label": LABEL})
    return [
        one["Id"] for one in listed if str(out_folder) in {each["Source"] for each in one["Mounts"]}
    ]
