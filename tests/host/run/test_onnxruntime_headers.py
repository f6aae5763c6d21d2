"""The headers of ONNX Runtime come from a Debian package, here from a small archive on disk."""

import hashlib
import shutil
import subprocess
from dataclasses import replace

import pytest

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock import debs
from trtyard.run import onnxruntime_headers as module
from trtyard.run.onnxruntime_headers import PACKAGE, SUITE, onnxruntime_headers

HEADER = "usr/include/onnxruntime/onnxruntime_cxx_api.h"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """This machine's apt source is an archive with a small package; gives the package's sha256."""
    if shutil.which("dpkg-deb") is None or shutil.which("apt-get") is None:
        pytest.skip("no apt on this machine")
    root, site = tmp_path / "root", tmp_path / "archive"
    (root / HEADER).parent.mkdir(parents=True)
    (root / HEADER).write_text("#pragma once\n", encoding="utf-8")
    (root / "DEBIAN").mkdir()
    fields = f"Package: {PACKAGE.name}\nVersion: {PACKAGE.version}\nArchitecture: amd64\n"
    fields += "Maintainer: nobody <nobody@example.org>\nDescription: headers\n"
    (root / "DEBIAN" / "control").write_text(fields, encoding="utf-8")
    packages = site / "dists" / SUITE / "main" / "binary-amd64"
    packages.mkdir(parents=True)
    file = site / "pool" / f"{PACKAGE.name}_{PACKAGE.version}_amd64.deb"
    file.parent.mkdir()
    command = ["dpkg-deb", "--build", "--root-owner-group", root, file]
    subprocess.run(command, check=True, capture_output=True)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    entry = f"{fields}Filename: pool/{file.name}\nSize: {len(content)}\nSHA256: {digest}\n\n"
    (packages / "Packages").write_text(entry, encoding="utf-8")
    listed = (
        f" {hashlib.sha256(entry.encode()).hexdigest()} {len(entry)} main/binary-amd64/Packages"
    )
    release = f"Codename: {SUITE}\nArchitectures: amd64\nComponents: main\nSHA256:\n{listed}\n"
    (packages.parents[1] / "Release").write_text(release, encoding="utf-8")
    yard = tmp_path / "yard"
    monkeypatch.setattr(module, "YARD", yard)
    monkeypatch.setattr(debs, "_sources", lambda: [("bookworm", f"deb file:{site} bookworm main")])
    return digest


def lock_as(monkeypatch, sha256, **changes):
    monkeypatch.setattr(module, "PACKAGE", replace(PACKAGE, sha256=sha256, **changes))


def test_the_package_is_downloaded_once(archive, monkeypatch):
    lock_as(monkeypatch, archive)
    folder = onnxruntime_headers()
    assert (folder / "onnxruntime_cxx_api.h").read_text(encoding="utf-8") == "#pragma once\n"
    monkeypatch.setattr(debs, "_sources", list)  # nothing more to download from
    assert onnxruntime_headers() == folder


def test_another_hash_than_the_locked_one_is_refused(archive, monkeypatch):
    lock_as(monkeypatch, "0" * 64)
    with pytest.raises(IntegrityError, match=f"{PACKAGE.name}.* is {archive}, not 0000"):
        onnxruntime_headers()
    left = [one.name for one in (module.YARD / "headers").iterdir()]
    assert left == []


def test_a_version_that_apt_lacks_is_named(archive, monkeypatch):
    lock_as(monkeypatch, archive, version="1.99-1")
    with pytest.raises(
        EnvironmentLacksError, match=r"libonnxruntime-dev 1\.99-1 of Debian"
    ) as lack:
        onnxruntime_headers()
    assert "--headers FOLDER" in str(lack.value)
