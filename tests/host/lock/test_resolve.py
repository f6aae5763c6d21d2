"""Which releases and files are locked; resolving a whole row needs a network."""

import pytest
from tiny_wheels import make_wheel

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.lock.file import read_lock
from trtyard.lock.relock import relock
from trtyard.lock.resolve import _compiled, _releases, _wheel_for, compiled_packages
from trtyard.matrix.reader import read_matrix
from trtyard.system.processes import CommandError
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


@pytest.fixture(scope="module")
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


def package(*filenames):
    wheels = [
        {"url": f"index/{name}", "size": 1, "hashes": {"sha256": "0" * 64}} for name in filenames
    ]
    return {"name": "demo", "version": "1.0", "wheels": wheels}


def chosen(row, python, *filenames):
    return _wheel_for(row, package(*filenames), python).filename


def test_specific_wheel_is_preferred_over_a_pure_one(row):
    pure = "demo-1.0-py3-none-any.whl"
    exact = "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    assert chosen(row, "3.11", pure, exact) == exact
    assert chosen(row, "3.12", pure, exact) == pure


def test_stable_abi_wheel_fits_later_pythons(row):
    stable = "demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl"
    assert chosen(row, "3.13", stable) == stable
    with pytest.raises(UsageError, match="no wheel"):
        chosen(row, "3.10", stable)


def test_newest_supported_glibc_wheel_is_chosen(row):
    names = [f"demo-1.0-cp311-cp311-manylinux_2_{n}_x86_64.whl" for n in (17, 28, 34)]
    assert chosen(row, "3.11", *names) == names[1]


@pytest.mark.parametrize(
    "name",
    [
        "demo-1.0-cp311-cp311-manylinux_2_34_x86_64.whl",
        "demo-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
        "demo-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "demo-1.0-cp311-cp311-win_amd64.whl",
        "demo-1.0-cp311-cp311t-manylinux_2_17_x86_64.whl",
        "demo-1.0-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl",
        "demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        "not a wheel.whl",
    ],
)
def test_incompatible_wheels_are_never_chosen(row, name):
    with pytest.raises(UsageError) as caught:
        chosen(row, "3.11", name)
    assert "demo 1.0" in caught.value.message
    assert "3.11" in caught.value.hint


def test_index_without_hashes_is_refused(row):
    wheel = {"url": "index/demo-1.0-py3-none-any.whl", "size": 1, "hashes": {"md5": "0"}}
    with pytest.raises(EnvironmentLacksError, match="sha256"):
        _wheel_for(row, {"name": "demo", "version": "1.0", "wheels": [wheel]}, "3.11")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("error: Request failed\n  cause: dns error\n", EnvironmentLacksError),
        ("cause: Failed to fetch: http://x/y\n  cause: HTTP status 502", EnvironmentLacksError),
        ("Because there is no version of torch==2.99.0 ...", UsageError),
    ],
)
def test_network_error_differs_from_an_unsolvable_row(row, monkeypatch, said, error):
    def fail(*_, **__):
        raise CommandError(["uv"], 2, said)

    monkeypatch.setattr("trtyard.lock.resolve.compiled_packages", fail)
    with pytest.raises(error):
        _compiled(row, "3.11", {})


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Three releases of a package that another, ``top``, asks for without naming one."""
    for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for version in ("1.0", "1.1", "2.0"):
        make_wheel(tmp_path, "low", version)
    make_wheel(tmp_path, "top", "1.0", requires=["low"])
    make_wheel(tmp_path, "top", "2.0", requires=["low>=1.1"])


@pytest.mark.parametrize(
    ("top", "preferred", "low"),
    [
        ("1.0", {}, "2.0"),
        ("1.0", {"low": "1.0"}, "1.0"),
        ("2.0", {"low": "1.1", "top": "1.0"}, "1.1"),
        ("2.0", {"low": "1.0", "top": "1.0"}, "2.0"),  # no longer allowed
        ("1.0", {"low": "0.1", "gone": "3.0"}, "2.0"),  # no longer there
    ],
)
def test_compatible_release_is_kept(index, top, preferred, low):
    packages = compiled_packages([f"top=={top}"], "3.11", "2.28", preferred=preferred)
    assert {one["name"]: one["version"] for one in packages} == {"top": top, "low": low}


def test_earlier_releases_are_read_per_python():
    locked = read_lock(LOCK_FILE).row("rtx-1.7")
    assert _releases(locked, "3.10")["numpy"] == "2.2.6"
    assert _releases(locked, "3.11")["numpy"] == "2.4.6"
    assert _releases(locked, "3.11")["pycuda"] == "2026.1"
    assert _releases(None, "3.11") == {}


@pytest.mark.parametrize(("upgrade", "keeps"), [("", True), ("rtx", False)])
def test_only_an_upgrade_changes_locked_releases(tmp_path, monkeypatch, upgrade, keeps):
    """The row rtx-1.7 has changed, and is resolved because of that or because it was named."""
    matrix = tmp_path / "versions.toml"
    matrix.write_text(MATRIX_FILE.read_text().replace('driver = "580', 'driver = "581', 1))
    monkeypatch.setattr("trtyard.lock.relock.MATRIX_FILE", matrix)
    asked = {}

    class EnoughError(Exception):
        pass

    def resolve_row(row, before):
        asked[row.name] = before
        if row.name == "rtx-1.7":
            raise EnoughError

    monkeypatch.setattr("trtyard.lock.resolve.resolve_row", resolve_row)
    with pytest.raises(EnoughError):
        relock(upgrade=upgrade)
    assert asked["rtx-1.7"] == (read_lock(LOCK_FILE).row("rtx-1.7") if keeps else None)
