"""The store, filled by the real uv from small wheels in a folder."""

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from tiny_wheels import make_wheel

from trtyard.build import store as module
from trtyard.build.bake import Plan
from trtyard.build.store import check_store, fetch, fetch_files, look_into, wanted_files
from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.folders import held_folder
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Return the folder that is all uv knows of; of the locked uv no copy is wanted."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("UV_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "find_uv", lambda store: store)
    return folder


@pytest.fixture
def wanted(index):
    wheels = (make_wheel(index, "tiny"), make_wheel(index, "tinier"))
    return wanted_files(ROW, replace(LOCKED, wheels=wheels, sdists=(), debs=()))


def names(folder):
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_every_file_is_fetched_once_by_name_and_hash(index, wanted, tmp_path):
    store = tmp_path / "store"
    fetch_files(ROW, wanted, store)
    assert names(store) == ["tinier-1.0-py3-none-any.whl", "tiny-1.0-py3-none-any.whl"]
    for file in index.iterdir():
        file.unlink()  # so a second fetch could only fail
    fetch_files(ROW, wanted, store)
    assert len(look_into(store, wanted).right) == 2


def test_a_tampered_file_is_named_with_both_hashes(wanted, tmp_path):
    store = tmp_path / "store"
    fetch_files(ROW, wanted, store)
    (store / wanted[0].path).write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        fetch_files(ROW, wanted, store)
    assert wanted[0].path.name in caught.value.message
    assert f"expected sha256 {wanted[0].sha256}, found d9298a10d1b0" in caught.value.message


def test_file_altered_by_the_index_is_dropped(index, wanted, tmp_path):
    make_wheel(index, "tiny", files={"tiny.py": b"NAME = 'evil'\n"})
    with pytest.raises(IntegrityError, match=r"tiny-1\.0"):
        fetch_files(ROW, wanted[:1], tmp_path / "store")
    assert names(tmp_path / "store") == []


def test_interrupt_leaves_only_complete_files(wanted, tmp_path, monkeypatch):
    compare = module._compare

    def interrupted(file, name, hashes, origin):
        if name.startswith("tinier"):
            raise KeyboardInterrupt
        compare(file, name, hashes, origin)

    monkeypatch.setattr(module, "_compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_files(ROW, wanted, tmp_path / "store")
    assert names(tmp_path / "store") == ["tiny-1.0-py3-none-any.whl"]


def test_partial_files_of_a_killed_run_are_removed(wanted, tmp_path):
    store, script = tmp_path / "store", tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from trtyard.core.files import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as partial:\n"
        "    partial.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, script, store / wanted[0].path]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=env, check=False).returncode == -signal.SIGKILL
    (store / "sources" / ".partial-0" / "repository").mkdir(parents=True)
    assert names(store)[0].startswith(".partial-")
    fetch_files(ROW, wanted, store)
    assert names(store) == ["tinier-1.0-py3-none-any.whl", "tiny-1.0-py3-none-any.whl"]
    assert not list((store / "sources").iterdir())


def test_two_runs_fill_a_store_in_turn(wanted, tmp_path, capfd):
    store = tmp_path / "store"
    store.mkdir()
    with held_folder(store, waiting=None):
        other = threading.Thread(target=fetch_files, args=(ROW, wanted, store))
        other.start()
        other.join(timeout=1)
        assert other.is_alive()
        assert names(store) == []
    other.join()
    assert len(names(store)) == 2
    assert "another run that fetches into" in capfd.readouterr().err


def test_missing_file_is_listed_and_can_be_copied_in(index, wanted, tmp_path):
    store, file = tmp_path / "store", index / wanted[0].path.name
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(EnvironmentLacksError) as caught:
        fetch_files(ROW, wanted, store)
    assert f"{file.name}: sha256 {wanted[0].sha256}" in caught.value.message
    assert "copy the files there" in str(caught.value)
    (store / wanted[0].path).write_bytes(content)
    fetch_files(ROW, wanted, store)


def test_index_that_does_not_answer_is_asked_once(wanted, tmp_path, monkeypatch, capfd):
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/simple"
        for name, value in {"UV_DEFAULT_INDEX": address, "UV_HTTP_RETRIES": "0"}.items():
            monkeypatch.setenv(name, value)
        for name in ("UV_NO_INDEX", "UV_FIND_LINKS", "UV_INDEX"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(EnvironmentLacksError) as caught:
            fetch_files(ROW, wanted, tmp_path / "store")
    said = capfd.readouterr().err
    assert said.count("a package index does not answer") == 1
    assert address in said
    for one in wanted:
        assert f"{one.path}: sha256 {one.sha256}" in caught.value.message


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(UsageError, match="needs a folder"):
        fetch("default", "")
    with pytest.raises(UsageError, match="image or all"):
        fetch("default", str(tmp_path), pythons="some")


def test_missing_store_is_reported(tmp_path):
    with pytest.raises(UsageError, match="no such folder") as caught:
        check_store(ROW, LOCKED, tmp_path / "none")
    assert "./run fetch" in caught.value.hint


def test_with_a_store_no_step_has_a_network(tmp_path):
    plan = Plan(row=ROW, locked=LOCKED, base="local", local=(), image="trtyard/x:1")
    assert "network=none" not in str(plan.command(tmp_path, "default"))
    words = [str(word) for word in replace(plan, store=tmp_path).command(tmp_path, "default")]
    assert any(word.endswith(".network=none") for word in words)
    assert any(word.endswith(f".contexts.store={tmp_path}") for word in words)


def test_a_lock_of_another_matrix_is_not_fetched(tasks, checkout, tmp_path):
    file = checkout / "versions.toml"
    text = file.read_text()
    assert text.count('driver = "580.65.06"') > 1
    file.write_text(text.replace('driver = "580.65.06"', 'driver = "580.65.07"'))
    done = tasks("fetch", "--into", tmp_path / "store", root=checkout)
    assert done.returncode == 5, done.stderr
    assert not (tmp_path / "store").exists()
