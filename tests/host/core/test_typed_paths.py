"""Paths as a user types them."""

from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.typed_paths import typed_path


def test_typed_paths_are_absolute_and_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert typed_path("a b/net.pth") == tmp_path / "a b" / "net.pth"
    assert typed_path("~/net.pth") == Path("/home/me/net.pth")
    with pytest.raises(UsageError, match=r"nobody-here/net\.pth: no such user"):
        typed_path("~nobody-here/net.pth")
