"""``lock --upgrade ROW``: that row alone, rendered, and an error for what stays open."""

import json
from dataclasses import replace

import pytest

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock import relock as module
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.render import dockerfiles as render
from trtyard.render import resolving


@pytest.fixture
def tree(checkout, monkeypatch):
    """Return a checkout in which locking and rendering happen; registries do not answer."""
    for one in (module, render, resolving):
        monkeypatch.setattr(one, "MATRIX_FILE", checkout / "versions.toml")
        monkeypatch.setattr(one, "LOCK_FILE", checkout / "versions.lock")
    monkeypatch.setattr(module, "HOST_IN", checkout / "requirements" / "host.in")
    monkeypatch.setattr(module, "HOST_TXT", checkout / "requirements" / "host.txt")
    monkeypatch.setattr(module, "resolved_patches", lambda *_, **__: [])
    monkeypatch.setattr(render, "render_all", None)  # below, with the checkout as its root
    monkeypatch.setattr(resolving, "render_all", lambda *, check: render_in(checkout))
    return checkout


def render_in(root):
    files = render.render(read_matrix(render.MATRIX_FILE), read_lock(render.LOCK_FILE))
    return render.write_rendered(files, root)


@pytest.fixture
def resolves(monkeypatch):
    """Return a function that lets a row resolve to its lock with other wheels and the like."""

    def let(**changes):
        def resolve_row(row, _before=None):
            locked = read_lock(module.LOCK_FILE).row(row.name)
            return replace(locked, matrix_sha256=row.sha256(), **changes)

        monkeypatch.setattr("trtyard.lock.resolve.resolve_row", resolve_row)

    return let


def newer(root, name):
    """Return a row's wheels with another build of numpy."""
    return tuple(
        replace(one, sha256="1" * 64) if one.name == "numpy" else one
        for one in read_lock(root / "versions.lock").row(name).wheels
    )


def test_upgrade_changes_only_the_named_row(tree, resolves):
    before = read_lock(tree / "versions.lock").rows
    resolves(wheels=newer(tree, "8.6"))
    resolving.lock_and_render(upgrade="8")
    after = read_lock(tree / "versions.lock").rows
    assert {name for name in after if after[name] != before[name]} == {"8.6"}
    assert "1" * 64 in (tree / "images" / "8.6" / "requirements.txt").read_text()
    assert render_in(tree) == []


def test_another_changed_row_keeps_its_lock(tree, resolves):
    toml = tree / "versions.toml"
    toml.write_text(toml.read_text().replace('driver = "580', 'driver = "581', 1))
    before = read_lock(tree / "versions.lock").rows
    resolves(wheels=newer(tree, "8.6"))
    with pytest.raises(IntegrityError, match=r"row rtx-1\.7 was locked from"):
        resolving.lock_and_render(upgrade="8.6")
    after = read_lock(tree / "versions.lock").rows
    assert after["rtx-1.7"] == before["rtx-1.7"]
    assert after["8.6"] != before["8.6"]


def test_unresolved_entry_is_an_error_with_its_host(tree, resolves):
    resolves()
    with pytest.raises(EnvironmentLacksError) as caught:
        resolving.lock_and_render(upgrade="7.0")
    assert "base-image nvcr.io/nvidia/tensorrt 20.01-py3" in caught.value.message
    assert "needs nvcr.io" in caught.value.message
    resolving.lock_and_render(upgrade="8.6")  # nothing of it is open


def test_build_resolves_unresolved_entries_first(tree, resolves, capsys):
    """What is resolved is in the lock and rendered before anything is built."""
    matrix = read_matrix(tree / "versions.toml")
    lock = read_lock(tree / "versions.lock")
    resolves()
    found = resolving.resolved([matrix.row("7.0"), matrix.row("8.6")], lock)
    assert found.row("7.0").unresolved == lock.row("7.0").unresolved
    said = capsys.readouterr().err
    assert "row 7.0 has unresolved entries in versions.lock; resolving base-image nvcr.io" in said
    assert "row 8.6" not in said
    base = replace(lock.row("7.0").base, digest=f"sha256:{'a' * 64}", digest_kind="platform")
    resolves(base=base, unresolved=())
    found = resolving.resolved([matrix.row("7.0")], lock)
    assert found.row("7.0").unresolved == ()
    assert f"@{base.digest} AS base" in (tree / "images" / "7.0" / "Dockerfile").read_text()
    assert json.loads((tree / "versions.lock").read_text())["rows"][4]["unresolved"] == []
