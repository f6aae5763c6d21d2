import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.request import ConversionRequest
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run import in_docker as docker_executor
from trtyard.run.in_docker import _start_error, _translated, caller_on, places_of, settings_of
from trtyard.run.job import Job
from trtyard.run.limits import Limits, Watch, limits_of, memory_in_bytes
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
LIMITS = Limits(memory=8 << 30, processes=500)


@pytest.fixture
def job(tmp_path):
    return Job(
        row=ROW,
        locked=LOCKED,
        request=ConversionRequest(model="nets.py:make"),
        model_file=Path("/home/someone/nets.py"),
        out=tmp_path,
        weights=Path("/data/weights.pt"),
        image=Path("/data/weights.pt"),
    )


def test_only_output_is_writable_and_only_inputs_visible(job):
    mounts = settings_of(job, places_of(job), LIMITS)["mounts"]
    assert {mount["Source"]: mount["ReadOnly"] for mount in mounts} == {
        str(job.out): False,
        "/data/weights.pt": True,
        "/home/someone/nets.py": True,
    }
    assert {mount["Type"] for mount in mounts} == {"bind"}
    assert len({mount["Target"] for mount in mounts}) == 3


def test_the_container_has_as_few_rights_as_it_needs(job):
    settings = settings_of(job, places_of(job), LIMITS)
    assert settings["network_mode"] == "none"
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges"]
    assert settings["read_only"] is True
    assert not settings.keys() & {"volumes", "user"}
    assert "device_requests" not in settings
    assert not settings.keys() & {"privileged", "cap_add", "devices", "pid_mode", "ipc_mode"}


def test_container_has_limits_that_options_raise(job):
    settings = settings_of(job, places_of(job), LIMITS)
    assert settings["mem_limit"] == settings["memswap_limit"] == 8 << 30
    assert settings["pids_limit"] == 500
    assert settings["tmpfs"] == {
        docker_executor.TEMPORARY_PATH: f"{docker_executor.TEMPORARY}{4 << 30}"
    }
    engine = {"MemTotal": 10_000_000_000}
    assert limits_of(engine) == Limits(memory=8_000_000_000, processes=4096)
    assert limits_of(engine, "900m", "77") == Limits(memory=900 << 20, processes=77)


@pytest.mark.parametrize("text", ["", "12", "12gb", "-1g", "1.5g", "63m", "g", "0g", "twelve"])
def test_memory_that_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="--memory must be a size"):
        memory_in_bytes(text)


@pytest.mark.parametrize(
    ("line", "state", "words"),
    [
        ("", {"OOMKilled": True}, ("memory limit of 8.6 GB", "--memory 16384m")),
        ("RuntimeError: can't start new thread", {}, ("limit of 500 processes", "1000")),
        (
            "OpenBLAS blas_thread_init: pthread_create failed: Resource temporarily unavailable",
            {"OOMKilled": False},
            ("limit of 500 processes", "--processes 1000"),
        ),
        ("trtyard: the disk is full (/tmp/x)", {}, ("temporary folder of 4.3 GB", "--memory")),
        (
            "OSError: [Errno 28] No space left on device: '/tmp/x'",
            {},
            ("temporary folder of 4.3 GB", "--memory"),
        ),
    ],
)
def test_limit_that_was_hit_is_named(line, state, words):
    watch = Watch(LIMITS)
    assert list(watch.lines(["before\n", line])) == ["before\n", line]
    error = watch.hit(state)
    assert error.exit_code == 3
    assert words[0] in error.message
    assert words[1] in error.hint


@pytest.mark.parametrize("line", ["No space left on device: '/mnt/out/x'", "TensorRT says no"])
def test_other_failures_are_no_limit(line):
    watch = Watch(LIMITS)
    list(watch.lines([line]))
    assert watch.hit({"OOMKilled": False}) is None


def test_variables_named_in_hints_are_passed(job, monkeypatch):
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    monkeypatch.setenv("PYTHONPATH", "/other")
    environment = settings_of(job, places_of(job), LIMITS)["environment"]
    assert environment["PYTHONFAULTHANDLER"] == "1"
    assert "PYTHONPATH" not in environment
    sources = "".join(file.read_text() for file in (ROOT / "trtyard").rglob("*.py"))
    advised = set(re.findall(r"\b([A-Z][A-Z_]+)=\S+ in front", sources))
    assert "PYTHONFAULTHANDLER" in advised
    assert advised <= set(docker_executor.PASSED_ON)


def test_caller_owns_the_files_with_rootless_and_userns():
    caller = f"{os.getuid()}:{os.getgid()}"
    usual = ["name=seccomp,profile=builtin", "name=cgroupns"]
    assert caller_on({"SecurityOptions": usual}) == {"user": caller}
    assert caller_on({"SecurityOptions": None}) == {"user": caller}
    assert caller_on({"SecurityOptions": [*usual, "name=rootless"]}) == {"user": "0:0"}
    mapped = caller_on({"SecurityOptions": [*usual, "name=userns"]})
    assert mapped == {"user": caller, "userns_mode": "host"}


def test_unset_variables_are_not_passed(job):
    variables = settings_of(job, places_of(job), LIMITS)["environment"]
    assert variables == {"PYTHONSAFEPATH": "1"}


def test_inputs_keep_their_file_names(job):
    places = places_of(job)
    for path, place in places.items():
        assert path == job.out or Path(place).name == path.name


def test_output_paths_are_translated_in_any_chunks():
    names = {"/mnt/out": "/home/someone/out", "/mnt/inputs/1/a.png": "/pictures/a.png"}
    text = "wrote /mnt/out/é.onnx\ncannot read /mnt/inputs/1/a.png\nno end of line /mnt/out"
    expected = (
        "wrote /home/someone/out/é.onnx\ncannot read /pictures/a.png\n"
        "no end of line /home/someone/out"
    )
    data = text.encode()
    for size in (1, 2, 3, 7, len(data)):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert "".join(_translated(pieces, names)) == expected


def test_path_is_replaced_once_and_only_as_a_whole():
    names = {"/mnt/out": "/mnt/out/mine", "/mnt/inputs/0/a.py": "/mnt/out/a.py"}
    text = (
        "/mnt/out/x /mnt/outer /data/mnt/out /mnt/inputs/0/a.py:3 /mnt/inputs/0/a.pyc (/mnt/out)."
    )
    expected = (
        "/mnt/out/mine/x /mnt/outer /data/mnt/out /mnt/out/a.py:3 /mnt/inputs/0/a.pyc"
        " (/mnt/out/mine)."
    )
    assert "".join(_translated([text.encode()], names)) == expected


def test_binary_output_does_not_fail_the_conversion():
    assert "".join(_translated([b"\xff\xfe ok\n"], {})).endswith(" ok\n")


def test_gpu_passing_error_has_its_own_message():
    assert "GPU" in _start_error("nvidia-container-cli: initialization error").message
    assert "GPU" not in _start_error("no such file").message


def test_terminal_codes_in_model_output_are_removed():
    pieces = [b"\x1b[31", b"mred\x1b[0m /mnt/", b"out\n", b"\x1b]0;title\x07end\x1b"]
    assert list(_translated(pieces, {"/mnt/out": "/here"})) == ["red /here\n", "end"]


def test_users_module_comes_after_the_rows_packages(job):
    # As the current folder, which the pipeline adds at the end: PYTHONPATH comes first.
    folder = Path("/home/someone/w")
    asked = ConversionRequest(model="nets:make")
    standing = replace(job, request=asked, model_file=None, code_folder=folder)
    places = places_of(standing)
    settings = settings_of(standing, places, LIMITS)
    assert settings["working_dir"] == places[folder]
    assert "PYTHONPATH" not in settings["environment"]
    assert "working_dir" not in settings_of(job, places_of(job), LIMITS)
