import functools
import http.server
import os
import threading

import pytest
from tiny_wheels import make_wheel

from trtyard.build.bake import PLACES
from trtyard.core.errors import UsageError
from trtyard.fetching.mirrors import NONE, read_mirrors
from trtyard.fetching.vendor import vendor_address
from trtyard.lock.resolve import compiled_packages

WHOLE = """
schema = 1
ca-bundle = "own.pem"
snapshots = "https://packages.example.org/snapshots/"
[registries]
"docker.io" = "registry.example.org:5000/hub"
[python]
index = "https://packages.example.org/simple"
extra = ["https://packages.example.org/vendor"]
[apt]
"debs.example.org" = "https://packages.example.org/debs/"
[git]
"github.com" = "https://git.example.org/hub/"
[vendor]
"pypi.nvidia.com" = "https://files.example.org/nvidia/"
"""


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Return a function that reads a file of that content."""

    def read(text):
        (tmp_path / "own.pem").touch()
        file = tmp_path / "mirrors.toml"
        file.write_text(text)
        monkeypatch.setenv("TRTYARD_MIRRORS", str(file))
        return read_mirrors()

    return read


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("debian:bookworm-slim", "registry.example.org:5000/hub/library/debian:bookworm-slim"),
        ("nvidia/cuda@sha256:00", "registry.example.org:5000/hub/nvidia/cuda@sha256:00"),
        ("docker.io/nvidia/cuda:1", "registry.example.org:5000/hub/nvidia/cuda:1"),
        ("nvcr.io/nvidia/tensorrt:20.01-py3", "nvcr.io/nvidia/tensorrt:20.01-py3"),
        ("localhost/debian:1", "localhost/debian:1"),
    ],
)
def test_image_name_on_a_mirror(mirrors, name, place):
    assert mirrors(WHOLE).image(name) == place
    assert NONE.image(name) == name


def test_users_settings_come_first(mirrors, tmp_path, monkeypatch):
    monkeypatch.setattr("trtyard.fetching.mirrors.Path.home", lambda: tmp_path)
    environment = {"UV_INDEX": "https://mine.example.org"}
    mirrors(WHOLE).set_variables(environment)
    assert environment == {
        "UV_INDEX": "https://mine.example.org",
        "UV_DEFAULT_INDEX": "https://packages.example.org/simple",
        "SSL_CERT_FILE": str(tmp_path / "own.pem"),
        "TRTYARD_APT_MIRRORS": "debs.example.org https://packages.example.org/debs\n",
        "TRTYARD_VENDOR_INDEX": "https://files.example.org/nvidia",
        "TRTYARD_SNAPSHOTS": "https://packages.example.org/snapshots",
    }


def test_build_gets_only_the_netrc_of_mirror_hosts(mirrors, tmp_path, monkeypatch):
    file = tmp_path / ".netrc"
    lines = [
        f"machine {host}.example.org login me password of-{host}" for host in ("packages", "x")
    ]
    file.write_text("\n".join([*lines, "default login me password of-all\n"]))
    found = mirrors(WHOLE)
    for environment in ({"NETRC": str(file)}, {}):
        monkeypatch.setattr("trtyard.fetching.mirrors.Path.home", lambda: tmp_path)
        found.set_variables(environment)
        assert environment["TRTYARD_NETRC"] == f"{lines[0]}\n"
    file.write_text("machine packages.example.org password hunter2 logn me\n")
    with pytest.raises(UsageError, match="line 1") as caught:
        found.set_variables({"NETRC": str(file)})
    assert "hunter2" not in str(caught.value)
    environment = {}
    NONE.set_variables(environment)
    assert environment == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"docker.io" =', '"dockr.io" =', ["registries.dockr.io", "docker.io"]),
        ("registry.example.org:5000/hub", "https://registry.example.org", ["HOST/PREFIX"]),
        (
            "https://packages.example.org/simple",
            "packages.example.org",
            ["python.index", "address"],
        ),
        ("own.pem", "other.pem", ["ca-bundle", "other.pem"]),
        ("schema = 1", "schema = 2", ["schema"]),
        ("index =", "indx =", ["python.indx"]),
        ("https://packages.example.org/debs/", "https://x/#e", ["apt.debs.example.org", "address"]),
        ('"debs.example.org" =', '"https://debs" =', ["apt.https://debs", "host"]),
        ('"github.com" =', '"gitlab.com" =', ["git.gitlab.com", "must be github.com"]),
        (
            '"pypi.nvidia.com" =',
            '"index.example.org" =',
            ["vendor.index.example.org", "must be pypi.nvidia.com"],
        ),
        ("https://files.example.org/nvidia/", "files.example.org", ["vendor", "address"]),
        ("https://packages.example.org/snapshots/", "x", ["snapshots", "address"]),
        ("https://git.example.org/hub/", "git.example.org", ["git.github.com", "address"]),
        ("schema = 1", "schema =", ["not TOML"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(mirrors, old, new, words):
    with pytest.raises(UsageError) as caught:
        mirrors(WHOLE.replace(old, new))
    for word in ("mirrors.toml", *words):
        assert word in caught.value.message


def test_git_gets_its_mirror(mirrors):
    rule = "url.https://git.example.org/hub/.insteadOf=https://github.com/"
    assert mirrors(WHOLE).git_settings() == ["-c", rule]
    with pytest.raises(UsageError, match=r"git\.github\.com") as caught:
        mirrors(WHOLE.replace("https://git.", "https://me:hunter2@git."))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "old",
    [
        "https://packages.example.org/snapshots",
        "https://packages.example.org/simple",
        "https://packages.example.org/vendor",
        "https://packages.example.org/debs/",
        "https://files.example.org/nvidia/",
    ],
)
def test_password_is_refused_and_not_shown(mirrors, old):
    with pytest.raises(UsageError) as caught:
        mirrors(WHOLE.replace(old, "https://me:hunter2@packages.example.org"))
    assert "hunter2" not in str(caught.value)
    assert "netrc" in caught.value.message


def test_mirrors_file_is_optional_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("TRTYARD_MIRRORS", raising=False)
    monkeypatch.setattr("trtyard.fetching.mirrors.FILE", tmp_path / "mirrors.toml")
    assert read_mirrors() == NONE
    monkeypatch.setenv("TRTYARD_MIRRORS", str(tmp_path / "gone.toml"))
    with pytest.raises(UsageError, match="no such file"):
        read_mirrors()


def test_bad_mirrors_file_exits_with_2(tasks, tmp_path):
    file = tmp_path / "mirrors.toml"
    file.write_text("schema = 9")
    done = tasks("matrix", env={"TRTYARD_MIRRORS": str(file)})
    assert done.returncode == 2
    assert "schema" in done.stderr


@pytest.fixture
def index(tmp_path):
    """Return the address of a real package index on loopback, and what it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            asked.append(self.path)

    folder = tmp_path / "index"
    project = folder / "simple" / "tiny-demo"
    project.mkdir(parents=True)
    wheel = make_wheel(project, "tiny-demo")
    link = f'<a href="{wheel.filename}#sha256={wheel.sha256}">{wheel.filename}</a>'
    (project / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple", wheel, asked
    server.shutdown()
    server.server_close()


def test_vendor_files_come_from_the_mirror(mirrors):
    whole = mirrors(WHOLE)
    at = "tensorrt-libs/tensorrt_libs-8.6.1.whl"
    assert vendor_address(*at.split("/"), whole) == f"https://files.example.org/nvidia/{at}"
    assert vendor_address(*at.split("/"), NONE) == f"https://pypi.nvidia.com/{at}"
    environment = {}
    whole.set_variables(environment)
    assert environment["TRTYARD_VENDOR_INDEX"] == "https://files.example.org/nvidia"
    assert PLACES["vendor"] == "TRTYARD_VENDOR_INDEX"  # so a build gets it as a secret


@pytest.mark.parametrize("key", ['index = "{}"', 'extra = ["{}"]'])
def test_uv_takes_packages_from_the_mirror(mirrors, index, monkeypatch, tmp_path, key):
    address, wheel, asked = index
    # What uv was told at this address before, by another test's server, it would not ask again.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    found = mirrors(f"schema = 1\n[python]\n{key.format(address)}\n")
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    found.set_variables(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (package,) = compiled_packages(["tiny-demo==1.0"], "3.11", "2.28", only_wheels=True)
    assert package["wheels"][0]["hashes"]["sha256"] == wheel.sha256
    assert any("/simple/tiny-demo" in path for path in asked)


def test_user_without_home_has_no_netrc(mirrors, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("NETRC", raising=False)

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    environment = {}
    mirrors(WHOLE).set_variables(environment)
    assert environment
    assert "TRTYARD_NETRC" not in environment
