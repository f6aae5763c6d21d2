import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.clean import clean
from trtyard.run.environment import environment_of
from trtyard.system.folders import empty_own, held_folder, is_own, make_own, remove_own
from trtyard.system.uv import ROOT


def test_marked_folder_can_be_removed(tmp_path):
    folder = tmp_path / "own"
    make_own(folder)
    make_own(folder)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    assert is_own(folder)
    empty_own(folder)
    assert [entry.name for entry in folder.iterdir()] == ["CACHEDIR.TAG"]
    remove_own(folder)
    assert not folder.exists()


def test_targets_of_links_are_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").touch()
    make_own(tmp_path / "own")
    (tmp_path / "own" / "link").symlink_to(tmp_path / "elsewhere")
    remove_own(tmp_path / "own")
    assert (tmp_path / "elsewhere" / "thesis.txt").exists()


@pytest.mark.parametrize("tag", [None, "Signature: 8a477f597d28d172789f06886806bc55\n# uv\n"])
def test_unmarked_folder_is_neither_used_nor_deleted(tmp_path, tag):
    (tmp_path / "file").touch()
    if tag:
        (tmp_path / "CACHEDIR.TAG").write_text(tag)
    for act in (make_own, empty_own, remove_own):
        with pytest.raises(EnvironmentLacksError, match="was not made by trtyard"):
            act(tmp_path)
    assert (tmp_path / "file").exists()


def test_many_at_once_all_find_it_their_own(tmp_path):
    everyone = 8
    barrier = threading.Barrier(everyone, timeout=60)

    def mark(number):
        folder = tmp_path / str(number)
        barrier.wait()
        make_own(folder)
        # What the first to come does next: the others then find more than a mark.
        (folder / "work").touch()

    for number in range(50):
        with ThreadPoolExecutor(everyone) as pool:
            for done in [pool.submit(mark, number) for _ in range(everyone)]:
                done.result()


def test_folder_of_a_killed_marking_can_be_marked(tmp_path):
    # The kernel ends it at the first byte it writes, with no chance to tidy up.
    script = """
import resource, signal, sys
from pathlib import Path
from trtyard.system.folders import make_own
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
make_own(Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-B", "-c", script, tmp_path / "own"], cwd=ROOT)
    assert done.returncode == -signal.SIGXFSZ
    assert list((tmp_path / "own").iterdir())
    make_own(tmp_path / "own")
    empty_own(tmp_path / "own")
    assert [entry.name for entry in (tmp_path / "own").iterdir()] == ["CACHEDIR.TAG"]


def test_a_link_to_an_own_folder_is_not_own(tmp_path):
    make_own(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    assert not is_own(tmp_path / "link")


def test_lock_has_one_holder_and_leaves_no_file(tmp_path):
    with (
        held_folder(tmp_path, waiting=None),
        pytest.raises(BlockingIOError),
        held_folder(tmp_path, waiting=None),
    ):
        pass
    with held_folder(tmp_path, waiting=None):
        pass
    assert not list(tmp_path.iterdir())


def test_surviving_child_keeps_the_lock(tmp_path):
    with held_folder(tmp_path, waiting=None) as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
    with pytest.raises(BlockingIOError), held_folder(tmp_path, waiting=None):
        pass
    child.communicate(b"\n")
    with held_folder(tmp_path, waiting=None):
        pass


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setattr("trtyard.run.clean.YARD", tmp_path / ".trtyard")
    monkeypatch.setattr("trtyard.run.clean.ROOT", tmp_path)
    make_own(tmp_path / ".trtyard")
    (tmp_path / ".trtyard" / "big").write_bytes(os.urandom(2_000_000))
    (tmp_path / ".trtyard" / "same").hardlink_to(tmp_path / ".trtyard" / "big")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "someone's").touch()
    (tmp_path / "out").mkdir()
    return tmp_path


def test_clean_shows_and_deletes_only_what_is_marked(house, capsys):
    clean(old=False, dry_run=False, yes=True)
    assert not (house / ".trtyard").exists()
    assert (house / ".venv" / "someone's").exists()
    assert (house / "out").exists()
    shown = capsys.readouterr().out
    assert f"0.00 GB  {house / '.trtyard'}" in shown
    assert ".venv" not in shown
    clean(old=False, dry_run=False, yes=True)
    assert capsys.readouterr().out == "nothing to clean\n"


def test_clean_deletes_nothing_without_confirmation(house):
    clean(old=False, dry_run=True, yes=True)
    with pytest.raises(UsageError, match="terminal"):
        clean(old=False, dry_run=False, yes=False)
    assert (house / ".trtyard" / "big").exists()


def test_clean_old_takes_only_what_no_row_uses_now(house, monkeypatch):
    monkeypatch.setattr("trtyard.run.environment.YARD", house / ".trtyard")
    row, locked = row_and_lock("default")
    current = environment_of(row, locked, row.pythons[-1]).folder
    earlier = current.with_name("0123456789abcdef")
    for folder in (current, earlier, current.with_name("not marked")):
        folder.mkdir(parents=True)
    make_own(current)
    make_own(earlier)
    clean(old=True, dry_run=False, yes=True)
    assert sorted(entry.name for entry in current.parent.iterdir()) == [current.name, "not marked"]
