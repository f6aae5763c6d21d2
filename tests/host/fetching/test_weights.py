"""Weights by their address: downloaded once, from a server on loopback, and verified."""

import contextlib
import hashlib
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.fetching import weights
from trtyard.fetching.mirrors import NONE
from trtyard.fetching.weights import (
    WeightsFile,
    have_weights,
    is_address,
    published_file,
    read_address,
)

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Server:
    """Serves ``CONTENT`` below /files, and what goes wrong elsewhere."""

    def __init__(self):
        self.paths = []
        self.stop = threading.Event()

    def answer(self, handler):
        self.paths.append(handler.path)
        kind = handler.path.split("/")[1]
        if kind.isdecimal():
            return self.send(handler, int(kind), b"no")
        if kind == "moved":
            handler.send_response(302)
            handler.send_header("Location", handler.path.replace("moved", "files"))
            handler.end_headers()
            return None
        if kind == "page":
            return self.send(handler, 200, PAGE)
        if kind == "empty":
            return self.send(handler, 200, b"")
        if kind in ("short", "stuck"):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(CONTENT)))
            handler.end_headers()
            handler.wfile.write(CONTENT[:1000])
            handler.wfile.flush()
            if kind == "stuck":
                self.stop.wait(20)
            handler.close_connection = True
            return None
        return self.send(handler, 200, CONTENT)

    def send(self, handler, status, body):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(weights, "_RETRIES", 0)
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(ConnectionError):
                found.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        found.address = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.stop.set()
        http.shutdown()


def file_at(server, kind, sha256=SHA256):
    return WeightsFile(address=f"{server.address}/{kind}/net-{SHA256[:8]}.pth", sha256=sha256)


def left_in(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("kind", ["files", "moved"])
def test_a_file_is_downloaded_once(server, tmp_path, kind):
    published = published_file(file_at(server, kind).address)
    assert published.sha256 == SHA256[:8]
    path = have_weights(published, NONE, tmp_path)
    assert path == tmp_path / f"net-{SHA256[:8]}.pth"
    assert path.read_bytes() == CONTENT
    asked = len(server.paths)
    assert have_weights(published, NONE, tmp_path) == path
    assert len(server.paths) == asked
    assert left_in(tmp_path) == [path.name]


def test_runs_at_the_same_time_download_once(server, tmp_path):
    file = file_at(server, "files")
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda _: have_weights(file, NONE, tmp_path), range(5)))
    assert len(set(found)) == 1
    assert len(server.paths) == 1


@pytest.mark.parametrize(
    ("kind", "error", "words", "hint"),
    [
        ("401", EnvironmentLacksError, "401, a login is needed", "set up a login"),
        ("403", EnvironmentLacksError, "403, no access", "set up a login"),
        ("404", EnvironmentLacksError, "404, no such file", "on another machine"),
        ("500", EnvironmentLacksError, "not downloaded from 127.0.0.1", "on another machine"),
        ("short", EnvironmentLacksError, "not downloaded from 127.0.0.1", "on another machine"),
        ("stuck", EnvironmentLacksError, "not downloaded from 127.0.0.1", "on another machine"),
        ("page", IntegrityError, "is a web page and no weights, perhaps a login page", "login"),
        ("empty", IntegrityError, "the file is empty", "not kept"),
    ],
)
def test_what_goes_wrong_is_named_and_leaves_nothing(
    server, tmp_path, monkeypatch, kind, error, words, hint
):
    monkeypatch.setattr(weights, "_ANSWER_SECONDS", 1)
    with pytest.raises(error, match=words) as caught:
        have_weights(file_at(server, kind), NONE, tmp_path)
    assert hint in caught.value.hint
    assert left_in(tmp_path) == []


def test_a_wrong_hash_is_named_with_the_right_one(server, tmp_path):
    with pytest.raises(IntegrityError) as caught:
        have_weights(file_at(server, "files", "0" * 64), NONE, tmp_path)
    assert f"expected sha256 {'0' * 64}, found {SHA256}" in caught.value.message
    assert left_in(tmp_path) == []


def test_offline_the_file_can_be_placed(server, tmp_path):
    folder = tmp_path / "my weights"
    file = file_at(server, "files", SHA256[:8])
    file = replace(file, address=file.address.replace(server.address, "http://127.0.0.1:9"))
    with pytest.raises(EnvironmentLacksError) as caught:
        have_weights(file, NONE, folder)
    target = folder / f"net-{SHA256[:8]}.pth"
    assert f"download {file.address} on another machine" in caught.value.hint
    signed = replace(file, address=f"{file.address}?sig={'secret' * 3}")
    with pytest.raises(EnvironmentLacksError) as caught_signed:
        have_weights(signed, NONE, folder)
    assert f"download {file.address}?sig=*** on another" in caught_signed.value.hint
    assert f"(its sha256 starts with {SHA256[:8]}), and place it at {target}" in caught.value.hint
    target.write_bytes(b"another")
    with pytest.raises(IntegrityError, match=f"expected sha256 {SHA256[:8]}.*, found") as caught:
        have_weights(file, NONE, folder)
    assert f"rm '{target}'" in caught.value.hint
    target.write_bytes(CONTENT)
    assert have_weights(file, NONE, folder) == target


def test_a_file_that_cannot_be_written_is_an_error(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(EnvironmentLacksError, match="cannot be written: File too large"):
            have_weights(file_at(server, "files"), NONE, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_in(tmp_path) == []


def test_partial_files_of_killed_runs_are_removed(server, tmp_path):
    (tmp_path / ".partial-1234-net.pth").write_bytes(b"half")
    path = have_weights(file_at(server, "files"), NONE, tmp_path)
    assert left_in(tmp_path) == [path.name]


def test_a_mirror_replaces_the_host(server, tmp_path):
    file = WeightsFile(address="https://weights.example.org/files/net.pth?raw=1", sha256=SHA256)
    mirrors = replace(NONE, weights={"weights.example.org": f"{server.address}/files/mirror"})
    path = have_weights(file, mirrors, tmp_path)
    assert server.paths == ["/files/mirror/files/net.pth?raw=1"]
    assert path.name == f"{SHA256}-net.pth"


def test_an_address_has_the_hash_and_perhaps_a_key():
    address = f"https://example.org/a/net.safetensors?raw=1#sha256={SHA256.upper()}"
    file = read_address(address)
    assert (file.sha256, file.key) == (SHA256, "")
    assert file.address == "https://example.org/a/net.safetensors?raw=1"
    assert file.name == f"{SHA256}-net.safetensors"
    assert read_address(f"{address}#ema.module").key == "ema.module"
    assert is_address(address)
    assert not any(map(is_address, ("net.pth", "a:b", "seeded:0", "C/x#y", "dir/net.pth#params")))


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("https://a.org/n.pth", "the sha256 of the file is missing", "sha256sum FILE"),
        ("https://a.org/n.pth#params", "the sha256 of the file is missing", "64 digits"),
        (
            "https://a.org/n.pth#sha256=abc",
            r"must have 64 hex digits \(0-9, a-f\), this has 3",
            "sha256sum",
        ),
        (f"https://a.org/n#sha256={'g' * 64}", "must have 64 hex digits", "sha256sum"),
        (f"file:///tmp/n.pth#sha256={SHA256}", "only http:// and https://", "--weights FILE"),
        (f"s3://bucket/n.pth#sha256={SHA256}", "only http:// and https://", "--weights FILE"),
        (f"https://me:secret@a.org/n#sha256={SHA256}", "has a user or password", "netrc"),
        (f"ftp://me:secret@a.org/n#sha256={SHA256}", "has a user or password", "netrc"),
        (f"https://me:secret/2@a.org/n#sha256={SHA256}", "an invalid host or port", "https://"),
        (f"https://[a.org/n.pth#sha256={SHA256}", "an invalid host or port", "https://"),
        (f"https://a.org:99999/n.pth#sha256={SHA256}", "an invalid host or port", "https://"),
        (f"https:///n.pth#sha256={SHA256}", "has no host", "--weights https://"),
        ("https://a.org/n.pth?token=a-secret-of-mine", "n.pth.token=.*: the sha256", "sha256sum"),
        ("https://a.org/n.pth?a-secret-of-mine", "the sha256 of the file", "sha256sum"),
    ],
)
def test_other_addresses_are_refused(text, words, hint):
    with pytest.raises(UsageError, match=words) as caught:
        read_address(text)
    assert hint in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_published_name_without_a_hash_is_refused():
    with pytest.raises(UsageError, match="has no hash"):
        published_file("https://example.org/resnet18.pth")
