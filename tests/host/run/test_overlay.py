"""Packages for a model, resolved and installed by the real uv from a loopback index."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from loopback_index import served, variables
from tiny_wheels import make_sdist, make_wheel

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.core.packages import read_packages
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run import clean, environment
from trtyard.run import overlay as module
from trtyard.run.requirements import read_requirements
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve small wheels; ``locked 1.0`` is the row's only package."""
    store = tmp_path / "store"
    store.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(store, "locked", version)
    make_wheel(store, "model", "1.0", requires=["locked", "blocks"])
    make_wheel(store, "blocks", "0.5", requires=["locked>=1"])
    make_wheel(store, "newer", "3.1", requires=["locked>=2"])
    make_sdist(store, "source", "1.0")
    make_wheel(store, "foreign", "1.0", tag="cp34-cp34m-win32")
    with served(store) as found:
        for name, value in variables(found, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        for each in (module, environment, clean):
            monkeypatch.setattr(each, "YARD", tmp_path / "a yard")
        yield found


@pytest.fixture
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


@pytest.fixture
def lock(row, index):
    (wheel,) = (make_wheel(index.folder, "locked", "1.0"),)
    return replace(read_lock(LOCK_FILE).row(row.name), wheels=(wheel,), sdists=())


def made(row, lock, *words):
    return module.make_overlay(row, lock, PYTHON, read_requirements("a:b", words, None))


def imported(overlay, name):
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.append(sys.argv[1]); import {name}",
    ]
    done = subprocess.run([*command, overlay.folder / "site-packages"], capture_output=True)
    return done.returncode == 0


def test_packages_come_without_those_of_the_row(row, lock, capfd):
    overlay = made(row, lock, "model==1.0")
    facts = read_packages(overlay.folder)
    assert facts.asked == ("model==1.0",)
    assert [(one.name, one.version) for one in facts.installed] == [
        ("blocks", "0.5"),
        ("model", "1.0"),
    ]
    assert all(len(one.sha256) == 64 for one in facts.installed)
    assert imported(overlay, "model")
    assert imported(overlay, "blocks")
    assert not imported(overlay, "locked")
    said = capfd.readouterr().err
    assert "installing 2 packages" in said
    assert "packages: model 1.0, 1 more that they need" in said
    made(row, lock, "blocks")
    assert re.search(r"installing 1 package($|, up to \d)", capfd.readouterr().err, re.MULTILINE)


def test_same_requirements_need_no_network_again(row, lock, index, capfd, monkeypatch):
    first = made(row, lock, "model", "blocks")
    asked = len(index.logins)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(index.folder.parent / "another cache"))
    capfd.readouterr()
    second = made(row, lock, "blocks", "model", "model")
    assert (second.folder, len(index.logins)) == (first.folder, asked)
    assert "resolving" not in capfd.readouterr().err


def test_other_requirements_or_another_lock_get_another_folder(row, lock, index):
    first = made(row, lock, "model")
    assert made(row, lock, "model==1.0").folder != first.folder
    other = replace(lock, wheels=(make_wheel(index.folder, "locked", "2.0"),))
    assert made(row, other, "model").folder.parent != first.folder.parent


def test_packages_of_the_row_are_enough(row, lock, capfd):
    assert read_packages(made(row, lock, "locked").folder).installed == ()
    assert "packages: the row has them all" in capfd.readouterr().err


def test_folder_of_wheels_is_an_index_too(row, lock, index, monkeypatch):
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index.folder))
    assert imported(made(row, lock, "model"), "blocks")


def test_headless_opencv_replaces_the_other(row, lock, index):
    for name in ("opencv-python", "opencv-python-headless"):
        make_wheel(index.folder, name, "5.0")
    make_wheel(index.folder, "yolo", "1.0", requires=["opencv-python>=4"])

    def names(*words):
        return [one.name for one in read_packages(made(row, lock, *words).folder).installed]

    assert names("yolo") == ["opencv-python", "yolo"]
    assert names("yolo", "opencv-python-headless") == ["opencv-python-headless", "yolo"]


def test_package_that_would_move_the_row_is_named(row, lock):
    with pytest.raises(UsageError) as caught:
        made(row, lock, "newer")
    assert caught.value.message == (
        "newer 3.1 needs another release of locked, such as 2.0, but row rtx-1.7 has locked 1.0. "
        "The packages of a row do not change"
    )
    assert nothing_left(row)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("source", "source==1.0 has no wheel for Python"),
        ("foreign", "foreign==1.0 has no wheel for Python"),
        ("absent", "the package index has no package absent"),
        ("model==9", "model==9 cannot be resolved for row rtx-1.7: .*no version of model==9"),
    ],
)
def test_packages_that_cannot_be_had_are_named(row, lock, word, message):
    with pytest.raises(UsageError, match=message):
        made(row, lock, word)
    assert nothing_left(row)


def test_no_network_is_not_the_packages_fault(row, lock, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(EnvironmentLacksError, match="packages cannot be fetched"):
        made(row, lock, "model")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(EnvironmentLacksError, match="without a network: UV_OFFLINE is set"):
        made(row, lock, "model")
    assert nothing_left(row)


def test_replaced_file_is_refused(row, lock, index, monkeypatch):
    resolved = module.resolve_packages

    def resolved_before_the_change(*words):
        wheels = resolved(*words)
        make_wheel(index.folder, "blocks", "0.5", files={"blocks.py": b"EVIL = True\n"})
        return wheels

    monkeypatch.setattr(module, "resolve_packages", resolved_before_the_change)
    with pytest.raises(IntegrityError, match="does not match its hash"):
        made(row, lock, "model")
    assert nothing_left(row)


def test_interrupted_folder_is_made_again(row, lock):
    overlay = made(row, lock, "model")
    (overlay.folder / module.MARKER).unlink()
    (overlay.folder / "site-packages" / "model.py").unlink()
    (overlay.folder / "site-packages" / "stray.py").write_text("")
    assert imported(made(row, lock, "model"), "model")
    assert not imported(overlay, "stray")


def test_two_runs_at_once_install_once(row, lock, capfd):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(made(row, lock, "model"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [imported(one, "model") for one in found] == [True, True]
    assert capfd.readouterr().err.count("resolving model") == 1


def test_clean_old_finds_packages_on_earlier_locks(row, lock, index):
    current = made(row, lock, "model").folder
    other = replace(lock, wheels=(make_wheel(index.folder, "locked", "2.0"),))
    old = made(row, other, "model").folder
    assert module.old_overlays({current.parent.name}) == [old]
    assert set(clean.old_environments()) == {current, old}  # neither is the checkout's lock


def test_facts_file_is_json(row, lock):
    text = (made(row, lock, "model").folder / "packages.json").read_text()
    assert json.loads(text)["installed"][1]["name"] == "model"


def nothing_left(row):
    """Return whether no folder of packages is left."""
    return not list((module.YARD / "with").glob("*/*/*"))


@pytest.fixture
def gpu_lock(lock, index):
    wheels = (
        make_wheel(index.folder, "onnxruntime-gpu", "1.31.1", {"onnxruntime.py": b"GPU = 1\n"}),
        make_wheel(index.folder, "also", "3.0"),
    )
    return replace(lock, gpu=wheels)


def test_locked_gpu_packages_are_installed_without_resolving(row, gpu_lock, capfd):
    overlay = module.make_gpu_overlay(row, gpu_lock, PYTHON)
    facts = read_packages(overlay.folder)
    assert facts.asked == ("also==3.0", "onnxruntime-gpu==1.31.1")
    assert {one.sha256 for one in facts.installed} == {one.sha256 for one in gpu_lock.gpu}
    assert imported(overlay, "onnxruntime")
    said = capfd.readouterr().err
    assert "installing 2 packages" in said
    assert "resolving" not in said
    assert module.make_gpu_overlay(row, gpu_lock, PYTHON).folder == overlay.folder
    assert capfd.readouterr().err == ""


def test_gpu_packages_of_another_hash_are_refused(row, gpu_lock):
    wrong = tuple(replace(one, sha256="0" * 64) for one in gpu_lock.gpu)
    with pytest.raises(IntegrityError, match="hash"):
        module.make_gpu_overlay(row, replace(gpu_lock, gpu=wrong), PYTHON)
    assert nothing_left(row)


def test_gpu_packages_are_not_those_of_with(row, gpu_lock, index):
    asked = made(row, gpu_lock, "onnxruntime-gpu==1.31.1", "also==3.0")
    assert module.make_gpu_overlay(row, gpu_lock, PYTHON).folder != asked.folder


def test_python_without_gpu_packages_is_an_error_with_a_hint(row, gpu_lock):
    lacking = tuple(replace(one, pythons=("3.11", "3.12")) for one in gpu_lock.gpu)
    with pytest.raises(EnvironmentLacksError) as caught:
        module.make_gpu_overlay(row, replace(gpu_lock, gpu=lacking), "3.10")
    assert "row rtx-1.7 has no onnxruntime-gpu for Python 3.10" in caught.value.message
    assert caught.value.hint == "install Python 3.11, 3.12, then: ./run clean"
