import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.build import local_base as base
from trtyard.build.local_base import local_bases
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
BASE, BUILD_BASE = local_bases(ROW, LOCKED)


def listed(debs):
    return "".join(f"{deb.name} {deb.version}\n" for deb in debs)


def hashed(debs):
    # As apt names its archives: a colon of the version is %3a.
    return "".join(
        f"{deb.sha256}  {deb.name}_{deb.version.replace(':', '%3a')}_{deb.architecture}.deb\n"
        for deb in debs
    )


def test_build_base_contains_the_runtime_base():
    names = {deb.name for deb in BASE.debs}
    assert names < {deb.name for deb in BUILD_BASE.debs}
    assert "python3" in names
    assert "g++" not in names
    assert set(BUILD_BASE.wanted) > set(BASE.wanted)


def test_base_image_name_depends_on_the_lock_only():
    assert local_bases(ROW, LOCKED)[0].image == BASE.image
    assert BASE.image.startswith(f"trtyard/base:{ROW.base.suite}-")
    debs = tuple(replace(deb, version="9.9") if deb.name == "bash" else deb for deb in LOCKED.debs)
    other = local_bases(ROW, replace(LOCKED, debs=debs))
    assert other[0].image != BASE.image
    assert other[1].image != BUILD_BASE.image


def test_base_as_locked_declares_no_other_versions():
    facts = base._facts(BASE, listed(BASE.debs), hashed(BASE.debs))
    assert facts["kind"] == "local"
    assert facts["other_versions"] == []
    assert facts["instead_of"].endswith(LOCKED.base.digest)


def test_a_newer_version_is_declared():
    newer = [replace(deb, version="9") if deb.name == "bash" else deb for deb in BASE.debs]
    facts = base._facts(BASE, listed(newer), hashed(newer))
    locked = next(deb.version for deb in BASE.debs if deb.name == "bash")
    assert facts["other_versions"] == [["bash", locked, "9"]]


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_extra_or_missing_package_is_an_error(change):
    debs = BASE.debs[1:] if change == "missing" else BUILD_BASE.debs
    with pytest.raises(IntegrityError, match="missing:" if change == "missing" else "extra:"):
        base._facts(BASE, listed(debs), hashed(debs))


def test_archive_with_wrong_hash_is_refused():
    # One with an epoch in its version, whose colon is written differently in a file name.
    name = next(deb.name for deb in BUILD_BASE.debs if ":" in deb.version)
    altered = [
        replace(deb, sha256="0" * 64) if deb.name == name else deb for deb in BUILD_BASE.debs
    ]
    with pytest.raises(IntegrityError, match="0" * 64):
        base._facts(BUILD_BASE, listed(altered), hashed(altered))


def test_missing_tool_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "mmdebstrap is not installed" in base.why_not_here(ROW)
    with pytest.raises(EnvironmentLacksError, match="apt-get install mmdebstrap"):
        base._make(BASE, Path("docker"))


def test_facts_archive_is_reproducible(tmp_path):
    for name in ("a.tar", "b.tar"):
        base._write_tar(tmp_path / name, {Path("/opt/trtyard/base.json"): "{}\n"})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["opt", "opt/trtyard", "opt/trtyard/base.json"]
        assert tar.extractfile("opt/trtyard/base.json").read() == b"{}\n"


def test_suffix_of_a_base_is_not_part_of_its_recipe():
    """Or two builds of one row, each with its own bases, would never be the same image."""
    usual, *_ = local_bases(ROW, LOCKED)
    second, *_ = local_bases(ROW, LOCKED, "-b")
    assert second.image == f"{usual.image}-b"
    assert second.recipe == usual.recipe
