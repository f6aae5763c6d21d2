"""Debian packages that left the mirror, taken from a snapshot service on loopback."""

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from dataclasses import replace

import pytest

from trtyard.build.store import DEBS, have_debs
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.fetching import snapshots
from trtyard.fetching.snapshots import has_snapshots, snapshot_service, snapshot_times
from trtyard.lock.debs import deb_filename, download_debs
from trtyard.lock.file import Deb, read_lock
from trtyard.lock.relock import _dated
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
TIME, LATER = "20260131T101112Z", "20260201T101112Z"
SUITES = (("debian", ""), ("debian", "-updates"), ("debian-security", "-security"))

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt on this machine")


def archive(folder, time, debs, components=("main",)):
    """Write the snapshot of that time; the packages are in the last component."""
    for name, suffix in SUITES:
        for component in components:
            place = folder / "archive" / name / time / "dists" / f"bookworm{suffix}" / component
            (place / "binary-amd64").mkdir(parents=True)
            (place / "binary-amd64" / "Packages").write_text("")
    pool = folder / "archive" / "debian" / time / "pool"
    pool.mkdir()
    entries = []
    for file in debs:
        shutil.copy2(file, pool)
        control = subprocess.run(["dpkg-deb", "--field", file], capture_output=True, text=True)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        entries.append(
            f"{control.stdout.strip()}\nFilename: pool/{file.name}\nSize: {file.stat().st_size}\n"
            f"SHA256: {sha256}\n"
        )
    suite = folder / "archive" / "debian" / time / "dists" / "bookworm" / components[-1]
    (suite / "binary-amd64" / "Packages").write_text("\n".join(entries))


@pytest.fixture
def gone(tmp_path):
    """Return a package that no mirror has, as it is locked, and its file."""
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: trtyard-gone\nVersion: 1:1.0\nArchitecture: all\n"
    control += "Maintainer: tests <tests@example.org>\nDescription: tiny\n"
    (root / "DEBIAN" / "control").write_text(control)
    file = tmp_path / "trtyard-gone_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, file], check=True, capture_output=True)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    size = file.stat().st_size
    deb = Deb(
        name="trtyard-gone",
        version="1:1.0",
        architecture="all",
        stage="runtime",
        sha256=sha256,
        size=size,
    )
    return deb, file


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Serve ``tmp_path/served`` as the snapshot service; return the folder and what was asked."""
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirrors = tmp_path / "mirrors.toml"
    address = f"http://127.0.0.1:{server.server_port}"
    mirrors.write_text(f'schema = 1\nsnapshots = "{address}"\n')
    monkeypatch.setenv("TRTYARD_MIRRORS", str(mirrors))
    yield served, asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("time", [TIME, LATER])
def test_package_removed_from_mirror_comes_from_snapshot(service, gone, tmp_path, time, capfd):
    """At the time itself, or a day later: archives reach their snapshots some hours late."""
    served, _ = service
    deb, file = gone
    archive(served, time, [file])
    folder = tmp_path / "debs"
    folder.mkdir()
    download_debs(ROW, [deb], folder, TIME)
    assert (folder / deb_filename(deb)).read_bytes() == file.read_bytes()
    said = capfd.readouterr().err
    assert "1 packages are no longer in this machine's apt sources (trtyard-gone)" in said
    assert f"/archive/debian/{time}" in said
    assert "./run lock --upgrade rtx-1.7" in said


def test_package_component_follows_the_row(service, gone, tmp_path):
    served, _ = service
    deb, file = gone
    archive(served, TIME, [file], components=("main", "non-free"))
    row = replace(ROW, debs=replace(ROW.debs, unpacked=(deb.name,), components=("non-free",)))
    store = tmp_path / "store"
    locked = replace(LOCKED, debs=(replace(deb, stage="unpacked"),), snapshot=TIME)
    folder = have_debs(row, locked, locked.debs, store)
    assert folder == store / DEBS
    assert (folder / deb_filename(deb)).read_bytes() == file.read_bytes()


def test_a_snapshot_with_another_file_of_that_version_is_refused(service, gone, tmp_path):
    served, _ = service
    deb, file = gone
    archive(served, TIME, [file])
    locked = replace(LOCKED, debs=(replace(deb, sha256="0" * 64),), snapshot=TIME)
    with pytest.raises(IntegrityError, match=f"expected sha256 {'0' * 64}"):
        have_debs(ROW, locked, locked.debs, tmp_path / "store")


@pytest.mark.parametrize("snapshot", [TIME, ""])
def test_package_in_no_snapshot_is_named_with_its_hash(service, gone, tmp_path, snapshot):
    deb, _ = gone
    locked = replace(LOCKED, debs=(deb,), snapshot=snapshot)
    with pytest.raises(EnvironmentLacksError, match=deb.sha256):
        have_debs(ROW, locked, locked.debs, tmp_path / "store")
    assert bool(service[1]) == bool(snapshot)


def test_package_on_the_mirror_needs_no_snapshot(service, tmp_path):
    (deb,) = (one for one in LOCKED.debs if one.name == "media-types")
    folder = tmp_path / "debs"
    folder.mkdir()
    download_debs(ROW, [deb], folder, TIME)
    assert (folder / deb_filename(deb)).is_file()
    assert service[1] == []


def test_lock_has_the_snapshot_time_of_debian_rows():
    for name, locked in read_lock(LOCK_FILE).rows.items():
        row = read_matrix(MATRIX_FILE).row(name)
        assert bool(locked.snapshot) == (row.base.contents == "minimal")
    assert snapshot_times("20261231T235959Z") == ("20261231T235959Z", "20270101T235959Z")


def test_only_debian_has_snapshots():
    assert has_snapshots("bookworm")
    assert not has_snapshots("bionic")
    assert not has_snapshots("nosuchsuite")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", "deb http://s.example.org/archive/debian/20250520T000000Z bookworm main"),
        ("sources.list.d/a.list", "# http://s.example.org/archive/debian-security/20250520T000000Z"),
        ("sources.list.d/a.sources", "Types: deb\n# http://s.example.org/archive/debian/20250520T000000Z\n"),
        ("sources.list", ""),
    ],
)  # fmt: skip
def test_service_is_read_from_the_apt_sources(tmp_path, monkeypatch, file, text):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(snapshots, "APT_FOLDER", tmp_path)
    monkeypatch.setenv("TRTYARD_MIRRORS", str(tmp_path / "mirrors.toml"))
    (tmp_path / "mirrors.toml").write_text("schema = 1\n")
    assert snapshot_service() == ("http://s.example.org" if text else "")
    (tmp_path / "mirrors.toml").write_text('schema = 1\nsnapshots = "https://m.example.org/s/"\n')
    assert snapshot_service() == "https://m.example.org/s"


def test_unknown_service_is_named_with_the_setting(gone, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(snapshots, "APT_FOLDER", tmp_path)
    monkeypatch.setenv("TRTYARD_MIRRORS", str(tmp_path / "mirrors.toml"))
    (tmp_path / "mirrors.toml").write_text("schema = 1\n")
    download_debs(ROW, [gone[0]], tmp_path, TIME)
    assert "set snapshots in mirrors.toml" in capfd.readouterr().err


@pytest.mark.parametrize(("change", "expected"), [("", "2026"), ("9" * 64, "2027")])
def test_rows_with_the_same_packages_keep_one_snapshot(change, expected):
    row = read_matrix(MATRIX_FILE).row(LOCKED.name)
    kept = replace(LOCKED, name="other", snapshot="20260101T000000Z")
    older = replace(LOCKED, name="older", snapshot="20250101T000000Z")
    debs = (replace(LOCKED.debs[0], sha256=change or LOCKED.debs[0].sha256), *LOCKED.debs[1:])
    now = replace(LOCKED, debs=debs, snapshot="")
    before = {"other": kept, "older": older}
    assert _dated(row, now, before, "20270101T000000Z").snapshot.startswith(expected)
    assert _dated(row, now, {}, "20270101T000000Z").snapshot.startswith("2027")
