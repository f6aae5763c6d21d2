"""Files of the vendor's own index: by name and hash, from a server on loopback in its place."""

import functools
import hashlib
import http.server
import importlib.machinery
import importlib.util
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.build import store as module
from trtyard.build.bake import Plan
from trtyard.build.store import PACKAGES, StoredFile, confirm_pins, fetch_files, have_vendor_files
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.file import Artifact, Lock, read_lock, write_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

ROW = read_matrix(MATRIX_FILE).row("11.3")
CONTENT, ORIGIN = b"PK stand-in", "a page of the tests"
NAME = "demo_libs-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><title>Log in</title>"
WHEEL = Artifact(
    name="demo-libs",
    version="1.0",
    filename=NAME,
    sha256=SHA256,
    size=0,
    pythons=("3.11",),
    source="public-pin",
    origin=ORIGIN,
)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve a folder as the vendor's index; return the file's place in it and the address."""
    folder = tmp_path / "served" / "demo-libs"
    folder.mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    mirrors = tmp_path / "mirrors.toml"
    mirrors.write_text(f'schema = 1\n[vendor]\n"pypi.nvidia.com" = "{address}/"\n')
    monkeypatch.setenv("TRTYARD_MIRRORS", str(mirrors))
    monkeypatch.setattr(module, "find_uv", lambda _: tmp_path)  # there already
    yield folder / NAME, address
    server.shutdown()
    server.server_close()


def fetch(store):
    wanted = StoredFile(path=PACKAGES / NAME, sha256=SHA256, size=0, source=WHEEL)
    fetch_files(ROW, [wanted], store)


def test_vendor_file_is_fetched_and_hash_checked(index, tmp_path):
    index[0].write_bytes(CONTENT)
    fetch(tmp_path / "store")
    assert (tmp_path / "store" / PACKAGES / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "said"),
    [(b"another", hashlib.sha256(b"another").hexdigest()), (PAGE, "perhaps a login page")],
)
def test_wrong_vendor_file_error_has_expected_found_and_origin(index, tmp_path, served, said):
    index[0].write_bytes(served)
    with pytest.raises(IntegrityError) as caught:
        fetch(tmp_path / "store")
    for words in (NAME, SHA256, ORIGIN, said):
        assert words in caught.value.message
    assert not (tmp_path / "store" / PACKAGES / NAME).exists()


def test_missing_vendor_file_error_has_path_and_hash(index, tmp_path):
    with pytest.raises(EnvironmentLacksError) as caught:
        fetch(tmp_path / "store")
    assert f"{tmp_path / 'store' / PACKAGES / NAME}: sha256 {SHA256}" in caught.value.message
    assert "copy the files there" in caught.value.hint


def test_pin_origin_is_recorded_after_download(tmp_path, monkeypatch, capsys):
    lock = read_lock(LOCK_FILE)
    rows = {**lock.rows, ROW.name: replace(lock.row(ROW.name), wheels=(WHEEL,))}
    file = tmp_path / "versions.lock"
    write_lock(file, Lock(rows=rows))
    monkeypatch.setattr(module, "LOCK_FILE", file)
    (tmp_path / "store" / PACKAGES).mkdir(parents=True)
    confirm_pins(ROW, tmp_path / "store")
    assert read_lock(file).row(ROW.name).wheels == (WHEEL,)
    (tmp_path / "store" / PACKAGES / NAME).write_bytes(CONTENT)
    confirm_pins(ROW, tmp_path / "store")
    assert read_lock(file).row(ROW.name).wheels == (replace(WHEEL, source="vendor"),)
    assert f"{NAME} matches its public pin" in capsys.readouterr().err


def test_every_pin_names_its_source():
    pins = [one for row in read_lock(LOCK_FILE).rows.values() for one in row.wheels if one.origin]
    assert {one.name for one in pins} == {"tensorrt-libs", "tensorrt-cu13-libs"}
    assert all(one.is_vendors for one in pins)


@pytest.fixture
def step(index, tmp_path):
    """Return a function that runs the image's own step; it gives the exit code."""
    path = str(ROOT / "templates" / "steps" / "fetch-vendor")
    loader = importlib.machinery.SourceFileLoader("fetch_vendor", path)
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch_vendor", loader))
    loader.exec_module(made)
    made.MIRROR, made.FOLDERS = tmp_path / "vendor", (tmp_path / "store", tmp_path / "passed")
    made.ATTEMPTS = 1
    made.MIRROR.write_text(index[1])
    listed = tmp_path / "vendor.txt"
    listed.write_text(f"{NAME} {SHA256} demo-libs {ORIGIN}\n")
    return lambda: made.main(str(listed), str(tmp_path / "files"))


def test_the_step_fetches_it_once(step, index, tmp_path, capsys):
    index[0].write_bytes(CONTENT)
    assert step() == 0
    assert (tmp_path / "files" / NAME).read_bytes() == CONTENT
    index[0].unlink()
    assert step() == 0


@pytest.mark.parametrize("folder", ["store", "passed"])
def test_step_uses_the_passed_folder(step, tmp_path, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / NAME).write_bytes(CONTENT)
    assert step() == 0


def test_mirror_files_are_fetched_once_for_the_build(index, tmp_path):
    index[0].write_bytes(CONTENT)
    folder = tmp_path / "vendor"
    have_vendor_files([WHEEL], folder)
    assert (folder / NAME).read_bytes() == CONTENT
    index[0].unlink()
    have_vendor_files([WHEEL], folder)
    (folder / NAME).write_bytes(b"damaged")
    with pytest.raises(EnvironmentLacksError, match=f"sha256 {SHA256}"):
        have_vendor_files([WHEEL], folder)
    row, locked = ROW, read_lock(LOCK_FILE).row(ROW.name)
    plan = Plan(row=row, locked=locked, base="published", local=(), image="x:1", vendor=folder)
    assert f"11-3.contexts.vendor={folder}" in plan.command(Path("docker"), "default")


@pytest.mark.parametrize("served", [b"another", PAGE])
def test_wrong_file_exits_with_5(step, index, tmp_path, capsys, served):
    index[0].write_bytes(served)
    assert step() == 5
    said = capsys.readouterr().err
    assert f"expected sha256 {SHA256} ({ORIGIN})" in said
    assert ("web page" in said) == (served == PAGE)
    assert not (tmp_path / "files" / NAME).exists()


def test_step_exits_3_if_the_index_lacks_the_file(step, capsys):
    assert step() == 3
    said = capsys.readouterr().err
    assert NAME in said
    assert SHA256 in said
    assert "404" in said
    assert "--store" in said
