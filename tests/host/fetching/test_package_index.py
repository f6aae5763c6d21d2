"""What an index offers of a project, read from a real server on loopback."""

import socket

import pytest
from loopback_index import JSON, served
from packaging.version import Version

from trtyard.core.errors import EnvironmentLacksError
from trtyard.fetching.package_index import published

LINUX = "manylinux_2_28_x86_64"


@pytest.fixture
def index(tmp_path, monkeypatch):
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with served(tmp_path) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.address)
        yield index


def publish(index, *names):
    for name in names:
        (index.folder / name).write_bytes(b"not opened")


def found(project="demo"):
    return [(str(one.version), one.pythons) for one in published(project)[project]]


@pytest.mark.parametrize("html", [False, True])
def test_releases_come_newest_first_with_their_pythons(index, html):
    index.html = html
    publish(
        index,
        f"demo-10.9.0-cp311-none-{LINUX}.whl",
        f"demo-10.13.3.9-cp312-none-{LINUX}.whl",
        f"demo-10.13.3.9-cp38-none-{LINUX}.whl",
        f"demo-10.13.3.9.post1-cp310-cp310-{LINUX}.manylinux2014_x86_64.whl",
        "other_demo-1.0-py3-none-any.whl",
    )
    assert found() == [
        ("10.13.3.9.post1", ("3.10",)),
        ("10.13.3.9", ("3.8", "3.12")),
        ("10.9.0", ("3.11",)),
    ]


def test_releases_without_linux_files_are_ignored(index):
    publish(
        index,
        "demo-1.0-cp311-none-manylinux_2_28_aarch64.whl",
        "demo-1.1-cp311-none-win_amd64.whl",
        "demo-1.2.tar.gz",
        f"demo-1.3b1-cp311-none-{LINUX}.whl",
        f"demo-1.4.dev1-cp311-none-{LINUX}.whl",
        "demo-1.5-cp311-none-musllinux_1_2_x86_64.whl",
        "demo-1.6 not a wheel.whl",
    )
    assert found() == []


@pytest.mark.parametrize("tag", ["py3-none-any", "py2.py3-none-any", f"cp39-abi3-{LINUX}"])
def test_universal_wheel_names_no_python(index, tag):
    publish(index, f"demo-1.0-{tag}.whl")
    assert found() == [("1.0", ())]


@pytest.mark.parametrize("html", [False, True])
def test_a_yanked_release_is_left_out(index, html):
    index.html = html
    publish(index, "demo-1.0-py3-none-any.whl", "demo-1.1-py3-none-any.whl")
    index.yanked = {"demo-1.1-py3-none-any.whl"}
    assert found() == [("1.0", ())]


def test_unknown_project_has_no_releases(index):
    publish(index, "demo-1.0-py3-none-any.whl")
    found = published("demo", "nonesuch")
    assert [one.version for one in found["demo"]] == [Version("1.0")]
    assert found["nonesuch"] == ()


def test_an_extra_index_that_has_the_project_wins(index, tmp_path, monkeypatch):
    folder = tmp_path / "extra"
    folder.mkdir()
    publish(index, "demo-1.0-py3-none-any.whl", "low-1.0-py3-none-any.whl")
    with served(folder) as extra:
        (folder / "demo-0.9-py3-none-any.whl").touch()
        monkeypatch.setenv("UV_INDEX", f"vendor={extra.address}")
        assert found() == [("0.9", ())]
        assert found("low") == [("1.0", ())]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ((403, "text/plain", b"no"), "does not answer: 403"),
        ((200, JSON, b"<html>"), "does not list the files of demo"),
        ((200, "text/html", b"<a href='/login'>log in</a>"), "does not list the files of demo"),
        ((200, JSON, b"[]"), "does not list the files of demo"),
    ],
)
def test_failing_index_is_named(index, broken, said):
    index.broken = broken
    with pytest.raises(EnvironmentLacksError, match=f"127.0.0.1 {said}") as caught:
        published("demo")
    assert "UV_DEFAULT_INDEX" in caught.value.hint


def test_network_error_names_the_host(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{taken.getsockname()[1]}/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("trtyard.fetching.package_index._RETRIES", 0)
        with pytest.raises(EnvironmentLacksError, match=r"127\.0\.0\.1 does not answer"):
            published("demo")


def test_a_login_that_uv_has_is_used(index, monkeypatch):
    publish(index, "demo-1.0-py3-none-any.whl")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.address.replace("//", "//me:secret@"))
    assert found() == [("1.0", ())]
    assert index.logins[-1] == "Basic bWU6c2VjcmV0"


def test_default_index_follows_uv(index, tmp_path, monkeypatch):
    publish(index, f"demo-1.0-cp311-none-{LINUX}.whl")
    settings = tmp_path / "uv.toml"
    settings.write_text(f'[[index]]\nurl = "{index.address}"\ndefault = true\n', encoding="utf-8")
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    assert found() == [("1.0", ("3.11",))]
