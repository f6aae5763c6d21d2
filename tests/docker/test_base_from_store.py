"""A base image made from a store alone is the one that the machine's apt sources give."""

import shutil

import pytest

from trtyard.build import local_base as module
from trtyard.build.local_base import MAKER, LocalBase, _make, make_bases
from trtyard.build.store import DEBS
from trtyard.core.errors import IntegrityError
from trtyard.lock.debs import deb_filename, download_debs
from trtyard.lock.file import read_lock
from trtyard.system.docker_engine import docker_command, image_id
from trtyard.system.uv import LOCK_FILE


@pytest.fixture(scope="module")
def locked(row):
    return read_lock(LOCK_FILE).row(row.name)


@pytest.fixture(scope="module")
def store(row, locked, tmp_path_factory):
    """Return a store of the base's packages; skips where the distribution has newer ones by now."""
    if shutil.which(MAKER) is None:
        pytest.skip(f"{MAKER} is not installed")
    folder = tmp_path_factory.mktemp("store")
    (folder / DEBS).mkdir()
    debs = LocalBase(row=row, locked=locked, stage="base").debs
    download_debs(row, debs, folder / DEBS, locked.snapshot)
    gone = [deb.name for deb in debs if not (folder / DEBS / deb_filename(deb)).is_file()]
    if gone:
        pytest.skip(f"the distribution does not have the locked {', '.join(gone)} any more")
    return folder


@pytest.fixture
def other(row, locked, monkeypatch):
    """Return the base under a name of its own, so that nobody's image is replaced."""
    monkeypatch.setattr(module, "RECIPE", "test-of-the-store")
    return LocalBase(row=row, locked=locked, stage="base")


def content_of(engine, image):
    """Return all that makes an image's id but the label with the recipe's own name."""
    attributes = engine.images.get(image).attrs
    labels = {**attributes["Config"]["Labels"]}
    assert labels.pop("trtyard.recipe") == image.rpartition(":")[2]
    return attributes["RootFS"], {**attributes["Config"], "Labels": labels}, attributes["Created"]


def test_it_is_the_same_image(engine, row, locked, store, monkeypatch):
    usual = make_bases(row, locked)[0].image
    label = engine.images.get(usual).labels["trtyard.base"]
    if ", 0 of " not in label:
        pytest.skip(f"there is none of the locked versions to compare with: {label}")
    monkeypatch.setattr(module, "RECIPE", "test-of-the-store")
    other = LocalBase(row=row, locked=locked, stage="base")
    assert other.image != usual
    _make(other, docker_command(), store)
    try:
        assert content_of(engine, other.image) == content_of(engine, usual)
    finally:
        engine.images.remove(other.image)


def test_changed_archive_is_rejected(engine, other, store, tmp_path):
    changed = tmp_path / "store"
    shutil.copytree(store, changed)
    file = changed / DEBS / deb_filename(other.debs[0])
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="expected sha256"):
        _make(other, docker_command(), changed)
    assert image_id(engine, other.image) is None
