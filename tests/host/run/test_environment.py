"""A row's environment, made by the real uv from small wheels in a folder."""

import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_wheels import make_wheel

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run import environment as module
from trtyard.run.environment import (
    environment_of,
    existing_environment,
    make_environment,
)
from trtyard.system.folders import is_own
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, uv_environment

TENSORRT_FILES = {
    "tensorrt_rtx_libs/__init__.py": b"",
    "tensorrt_rtx_libs/libtensorrt_rtx.so.1": b"a library",
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a folder that is all uv can install from, and a yard of the test's own."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("UV_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "YARD", tmp_path / "a yard")
    return folder


@pytest.fixture
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


@pytest.fixture
def lock(row, store):
    wheels = (make_wheel(store, "tiny"), make_wheel(store, "tiny-libs", files=TENSORRT_FILES))
    return replace(read_lock(LOCK_FILE).row(row.name), wheels=wheels, sdists=())


def imported_name(environment):
    script = "import tiny; print(tiny.NAME)"
    command = [environment.python, "-I", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_environment_is_built_from_the_lock(row, lock):
    made = make_environment(row, lock)
    assert made.is_whole()
    assert imported_name(made) == "tiny"
    assert json.loads(made.row_file.read_text()) == row.facts(made.python_version)
    assert is_own(made.folder)


def test_tensorrt_library_gets_its_unversioned_link(row, lock):
    link = make_environment(row, lock).site_packages / "tensorrt_rtx_libs" / "libtensorrt_rtx.so"
    assert link.is_symlink()
    assert link.read_bytes() == b"a library"


def test_second_call_reuses_the_environment(row, lock, capfd):
    first = make_environment(row, lock)
    capfd.readouterr()
    before = (first.folder / module.MARKER).stat().st_mtime_ns
    assert make_environment(row, lock) == first == existing_environment(row, lock)
    assert (first.folder / module.MARKER).stat().st_mtime_ns == before
    assert capfd.readouterr() == ("", "")


def test_another_lock_gets_another_folder(row, lock, store):
    first = make_environment(row, lock)
    wheels = (make_wheel(store, "tiny", "1.1"), lock.wheels[1])
    second = make_environment(row, replace(lock, wheels=wheels))
    assert second.folder != first.folder
    assert first.is_whole()


@pytest.mark.parametrize("left", ["folder alone", "half of a venv", "all but the marker"])
def test_incomplete_environment_is_made_again(row, lock, left, capfd):
    for _ in range(2):
        made = make_environment(row, lock)
        (made.folder / module.MARKER).unlink()
        (made.site_packages / "tiny.py").unlink()  # as a hard link it is uv's cached file too
        (made.site_packages / "tiny.py").write_text("broken = ")
        if left == "half of a venv":
            shutil.rmtree(made.site_packages)
        elif left == "folder alone":
            shutil.rmtree(made.folder / "venv")
        assert existing_environment(row, lock) is None
        assert imported_name(make_environment(row, lock)) == "tiny"


def test_an_interpreter_that_went_away_is_noticed(row, lock):
    made = make_environment(row, lock)
    made.python.unlink()
    made.python.symlink_to("/nowhere/python3")
    assert existing_environment(row, lock) is None
    assert imported_name(make_environment(row, lock)) == "tiny"


def test_two_at_once_make_it_once(row, lock, capfd):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(make_environment(row, lock))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [imported_name(one) for one in made] == ["tiny", "tiny"]
    assert capfd.readouterr().err.count(" (once): Python") == 1


def test_child_processes_inherit_the_lock(row, lock, tmp_path, monkeypatch):
    """Should the maker be killed, its uv goes on; another run must not begin among its files."""
    noting, noted = tmp_path / "uv", tmp_path / "noted"
    noting.write_text(
        f'#!/bin/sh\necho "$1 $2" $(readlink -e /proc/self/fd/*) >>"{noted}"\n'
        f'exec "{module.uv()}" "$@"\n'
    )
    noting.chmod(0o755)
    monkeypatch.setattr(module, "uv", lambda: noting)
    made = make_environment(row, lock)
    holding = [line for line in noted.read_text().splitlines() if f" {made.folder.parent}" in line]
    assert [line.split()[:2] for line in holding] == [["venv", "--quiet"], ["pip", "install"]]


def test_wheel_with_wrong_hash_is_refused(row, lock, store):
    make_wheel(store, "tiny", files={"tiny.py": b"NAME = 'evil'\n"})
    with pytest.raises(IntegrityError) as caught:
        make_environment(row, lock)
    assert lock.wheels[0].sha256 in caught.value.message
    assert existing_environment(row, lock) is None


def test_missing_wheel_is_named_and_leaves_no_environment(row, lock, store):
    (store / lock.wheels[0].filename).unlink()
    with pytest.raises(EnvironmentLacksError, match="tiny"):
        make_environment(row, lock)
    assert existing_environment(row, lock) is None
    (folder,) = (module.YARD / "rows" / row.name).iterdir()
    assert [entry.name for entry in folder.iterdir()] == ["CACHEDIR.TAG"]


def test_a_package_beyond_the_lock_is_refused(row, lock, monkeypatch):
    shown = module.output_of
    with_extra = lambda *words, **options: shown(*words, **options) + "stowaway==6.6\n"  # noqa: E731
    monkeypatch.setattr(module, "output_of", with_extra)
    with pytest.raises(IntegrityError, match=r"extra \['stowaway==6\.6'\]"):
        make_environment(row, lock)


def test_full_disk_is_reported_before_fetching(row, lock, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    big = replace(lock.wheels[0], size=4_000_000_000)
    # The files are not in uv's cache yet, so they would have to be fetched.
    with pytest.raises(EnvironmentLacksError, match=r"needs 7\.6 GB .* 0\.0 GB free"):
        make_environment(row, replace(lock, wheels=(big, lock.wheels[1])))


def test_someone_elses_folder_is_not_touched(row, lock):
    for python in row.pythons:
        folder = environment_of(row, lock, python).folder
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(EnvironmentLacksError, match="was not made by trtyard"):
        make_environment(row, lock)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_uv_settings_against_the_lock_are_ignored(row, lock, monkeypatch, tmp_path):
    (tmp_path / "other.txt").write_text("tiny==9.9\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "other.txt"))
    monkeypatch.setenv("UV_OVERRIDE", str(tmp_path / "other.txt"))
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert imported_name(make_environment(row, lock)) == "tiny"


@pytest.mark.parametrize(
    "variable", [("FORCE_COLOR", "1"), ("CLICOLOR_FORCE", "1"), ("COLUMNS", "20")]
)
def test_uvs_display_settings_do_not_matter(row, lock, monkeypatch, variable):
    monkeypatch.setenv(*variable)
    assert imported_name(make_environment(row, lock)) == "tiny"


def test_packages_are_copied_if_the_cache_is_on_another_disk(tmp_path, monkeypatch):
    elsewhere = Path("/dev/shm")  # noqa: S108 - only its device is looked at
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    monkeypatch.delenv("UV_LINK_MODE", raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(elsewhere / "trtyard-no-such-cache"))
    assert uv_environment(tmp_path)["UV_LINK_MODE"] == "copy"
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    assert "UV_LINK_MODE" not in uv_environment(tmp_path)
