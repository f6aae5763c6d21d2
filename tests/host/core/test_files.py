"""Files written whole or not at all; tests/host has them because both sides write so."""

import os

import pytest

from trtyard.core.files import write_text, written_whole


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_written_file_has_the_default_mode(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "file") as partial:
            partial.unlink()  # as a linker does, which makes an executable of it
            partial.touch(0o755)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_writing_does_not_change_the_umask(tmp_path, monkeypatch):
    """It can only be read by changing it, for all threads: another's new file gets any mode."""
    monkeypatch.setattr("os.umask", lambda _: pytest.fail("the umask was changed"))
    write_text(tmp_path / "file", "text")


def test_failed_write_keeps_the_old_file_only(tmp_path):
    write_text(tmp_path / "file", "first")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "file") as partial:
        partial.write_text(str(1 // 0))
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("file", "first")]
