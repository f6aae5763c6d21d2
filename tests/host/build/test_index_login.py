"""fetch from a package index that wants a login, with the real uv and a server on loopback."""

import base64
import os
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tiny_wheels import make_wheel

from trtyard.build import store as module
from trtyard.build.store import fetch_files, wanted_files
from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
BASIC = f"Basic {base64.b64encode(b'someone:s%cret').decode()}"


class Server:
    """Serves a folder; with a login, to who has it; what it has moved, by leading elsewhere."""

    def __init__(self, folder, *, login=True, moved_to=""):
        self.seen, this = [], self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self):
                given = self.headers.get("Authorization")
                this.seen.append((self.path, given))
                if login and given != BASIC:
                    self.answer(401, "WWW-Authenticate", "Basic realm=x")
                elif moved_to and self.path.endswith(".whl"):
                    self.answer(302, "Location", moved_to + self.path)
                else:
                    super().do_GET()

            def answer(self, code, name, value):
                self.send_response(code)
                self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        def handler(*words):
            return Handler(*words, directory=str(folder))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with the pages of an index; of the locked uv no copy is wanted."""
    for name in list(os.environ):
        if name.startswith("UV_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(module, "find_uv", lambda store: store)
    (tmp_path / "index" / "simple" / "tiny").mkdir(parents=True)
    return tmp_path / "index"


@pytest.fixture
def wanted(folder):
    pages = folder / "simple" / "tiny"
    wheel = make_wheel(pages, "tiny")
    link = f'<a href="{wheel.filename}#sha256={wheel.sha256}">{wheel.filename}</a>'
    (pages / "index.html").write_text(f"<html><body>{link}</body></html>")
    return wanted_files(ROW, replace(LOCKED, wheels=(wheel,), sdists=(), debs=()))


@pytest.fixture
def serve(folder):
    servers = []

    def start(**options):
        servers.append(Server(folder, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("kept", ["address", "variables", "netrc"])
def test_login_sources_match_uv(serve, wanted, tmp_path, monkeypatch, kept):
    server = serve()
    plain = f"http://{server.host}/simple"
    settings = {
        "address": {"UV_DEFAULT_INDEX": f"http://someone:s%25cret@{server.host}/simple"},
        "variables": {
            "UV_DEFAULT_INDEX": f"my-team={plain}",
            "UV_INDEX_MY_TEAM_USERNAME": "someone",
            "UV_INDEX_MY_TEAM_PASSWORD": "s%cret",
        },
        "netrc": {"UV_DEFAULT_INDEX": plain},
    }[kept]
    if kept == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password s%cret\n")
        (tmp_path / "netrc").chmod(0o600)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    fetch_files(ROW, wanted, tmp_path / "store")
    assert (tmp_path / "store" / wanted[0].path).is_file()


def test_login_is_sent_to_its_server_only(serve, wanted, tmp_path, monkeypatch):
    other = serve(login=False)
    server = serve(moved_to=f"http://{other.host}")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://someone:s%25cret@{server.host}/simple")
    fetch_files(ROW, wanted, tmp_path / "store")
    assert [given for path, given in other.seen if path.endswith(".whl")] == [None]


def test_refusal_shows_the_servers_answer(serve, wanted, tmp_path, monkeypatch):
    files = serve()  # the pages are open, the files are not
    pages = serve(login=False, moved_to=f"http://{files.host}")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{pages.host}/simple")
    with pytest.raises(EnvironmentLacksError, match=r"tiny-1\.0.* was not fetched: 401") as caught:
        fetch_files(ROW, wanted, tmp_path / "store")
    assert "docs/offline.md" in caught.value.hint
