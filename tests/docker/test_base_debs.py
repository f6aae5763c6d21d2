"""Packages resolved inside of a base image, by its own apt, from an archive on loopback."""

import functools
import hashlib
import http.server
import io
import subprocess
import tarfile
import threading
import uuid
from dataclasses import replace

import pytest

from trtyard.build.local_base import make_bases
from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock import base_debs
from trtyard.lock.base_debs import resolve_on
from trtyard.lock.file import read_lock
from trtyard.matrix.row import Debs
from trtyard.system.uv import LOCK_FILE

PACKAGES = [
    ("trtyard-lib", "1.0", ""),
    ("trtyard-lib", "2.0", ""),
    ("trtyard-tool", "3.0", "Depends: trtyard-lib\n"),
    ("trtyard-dev", "4.0", "Depends: trtyard-tool\n"),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return the address of an apt archive of those packages, and each one's sha256."""
    folder, hashes, entries = tmp_path_factory.mktemp("archive"), {}, []
    for name, version, depends in PACKAGES:
        root = folder / "roots" / f"{name}-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\n{depends}"
        control += "Maintainer: tests <tests@example.org>\nDescription: tiny\n"
        (root / "DEBIAN" / "control").write_text(control)
        file = folder / f"{name}_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--build", root, file], check=True, capture_output=True)
        hashes[name, version] = hashlib.sha256(file.read_bytes()).hexdigest()
        entries.append(
            f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\n"
            f"SHA256: {hashes[name, version]}\n"
        )
    (folder / "Packages").write_text("\n".join(entries))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            pass

        def log_error(self, *words):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", hashes
    server.shutdown()
    server.server_close()


@pytest.fixture
def vendor_base(engine, row, archive, monkeypatch):
    """Return an image with that archive as its apt source, as a vendor's has its own.

    There is a second, which apt does not trust, as an old image's is once its vendor changed keys.
    """
    base = make_bases(row, read_lock(LOCK_FILE).row(row.name))[0].image
    line = f"deb [trusted=yes] {archive[0]} ./\ndeb {archive[0]}unsigned ./\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("demo.list")
        entry.size = len(line)
        tar.addfile(entry, io.BytesIO(line))
    container = engine.containers.create(base)
    container.put_archive("/etc/apt/sources.list.d", packed.getvalue())
    name = f"trtyard/test-{uuid.uuid4().hex}"
    container.commit(repository=name, tag="vendor")
    container.remove()
    monkeypatch.setattr(base_debs, "NETWORK", "host")  # the archive is on this machine's loopback
    yield f"{name}:vendor"
    engine.images.remove(f"{name}:vendor")


def asking(row, **change):
    tools, headers = ("trtyard-tool",), ("trtyard-dev",)
    debs = Debs(base=(), runtime=tools, build=headers, unpacked=(), components=())
    return replace(row, debs=debs, **change)


def test_debs_added_have_hashes_and_base_debs_are_listed(vendor_base, row, archive):
    debs = {deb.name: deb for deb in resolve_on(vendor_base, asking(row))}
    hashes = archive[1]
    for name, version, stage in (
        ("trtyard-lib", "2.0", "runtime"),
        ("trtyard-tool", "3.0", "runtime"),
        ("trtyard-dev", "4.0", "build"),
    ):
        found = debs[name]
        assert (found.version, found.stage) == (version, stage)
        assert found.sha256 == hashes[name, version]
        assert found.size > 0
    assert (debs["libc6"].stage, debs["libc6"].sha256) == ("base", "")
    assert set(debs) > {"dpkg", "apt", "bash"}


def test_failing_apt_source_is_skipped_with_a_message(vendor_base, row, capfd):
    resolve_on(vendor_base, asking(row))
    said = capfd.readouterr().err
    assert "skipped an apt source that failed" in said
    assert "unsigned" in said


def test_vendor_package_has_the_exact_version(vendor_base, row, archive):
    asked = asking(row, vendor_debs={"trtyard-lib": "1.0"})
    debs = {deb.name: deb for deb in resolve_on(vendor_base, asked)}
    assert debs["trtyard-lib"].version == "1.0"
    assert debs["trtyard-lib"].sha256 == archive[1]["trtyard-lib", "1.0"]


def test_missing_deb_is_named_and_no_container_remains(vendor_base, row, engine):
    asked = asking(row, vendor_debs={"trtyard-lib": "9.0"})
    with pytest.raises(EnvironmentLacksError, match="trtyard-lib"):
        resolve_on(vendor_base, asked)
    left = engine.api.containers(all=True, filters={"ancestor": vendor_base})
    assert left == []
