"""Push and pull against a real registry on loopback, with an image of a few bytes."""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trtyard.build import build
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.base_digest import resolve_base
from trtyard.lock.file import read_lock
from trtyard.matrix.row import UNRESOLVED, BaseImage
from trtyard.publish import push_and_pull as exchange
from trtyard.registry import referrers, repository
from trtyard.registry import transfer as registry
from trtyard.registry.transfer import NotPublishedError, digest_of, pull_image, push_image
from trtyard.render.dockerfiles import INVENTORY_PATH
from trtyard.system.docker_engine import connect, docker_command, image_id
from trtyard.system.uv import LOCK_FILE, ROOT

LABELS = {"trtyard.row": "tiny", "trtyard.content": "0123"}
CONFIG = """version: 0.1
log: {{accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:0"}}
"""
# Of the user "me" with the password "hunter2", as `htpasswd -nbB` writes it.
HTPASSWD = "me:$2b$05$yGwpWSYyGxc1nkJ81dVSaecQcxYu.eCuhDHXB53EbV8SX/dBrYkcO\n"
PUSH = """
import sys
from trtyard.system.docker_engine import connect, docker_command
from trtyard.registry.transfer import push_image
push_image(connect(), docker_command(), sys.argv[1], sys.argv[2])
"""


class Server:
    """A registry with its data and its log of requests."""

    def __init__(self, folder, *, users=""):
        self.folder = folder
        self.log, self.data = folder / "log.txt", folder / "data"
        settings = CONFIG.format(folder=self.data)
        if users:
            (folder / "users").write_text(users)
            settings += f"auth: {{htpasswd: {{realm: test, path: {folder / 'users'}}}}}\n"
        (folder / "config.yml").write_text(settings)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
            )
        # The system chooses the port: one that was free a moment ago may be another's by now.
        self.port = int(self.said(r"listening on 127\.0\.0\.1:(\d+)"))

    def said(self, pattern):
        """Return what the log says, as soon as it does."""
        deadline = time.monotonic() + 60
        while (found := re.search(pattern, self.log.read_text())) is None:
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        return found[1]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)

    def image(self, tag="0123"):
        return f"127.0.0.1:{self.port}/team/tiny:{tag}"

    def reads(self, path):
        """Return how often something below ``path`` was read so far.

        A request is logged when its answer has gone out, so perhaps after who asked went on.
        """
        mark = uuid.uuid4().hex
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v2/?{mark}", method="HEAD")
        with urllib.request.urlopen(request):  # noqa: S310 - the registry of the test
            self.said(f'("HEAD /v2/.{mark})')
        return self.log.read_text().count(f'"GET /v2/{path}')

    def largest_blob(self):
        return max(self.data.rglob("blobs/sha256/*/*/data"), key=lambda file: file.stat().st_size)


@pytest.fixture
def start(tmp_path, engine):
    """Return a function that starts a registry; all are stopped at the end."""
    if shutil.which("docker-registry") is None:
        if os.environ.get("TRTYARD_REQUIRE_DOCKER") == "1":
            pytest.fail("docker-registry is not installed")
        pytest.skip("docker-registry is not installed")
    servers = []

    def start(**options):
        servers.append(Server(tmp_path, **options))
        return servers[-1]

    yield start
    for one in servers:
        one.stop()


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def make(engine):
    """Return a function that makes an image no other test has; all are removed at the end."""
    names = []

    def make(size=100_000, labels=LABELS, files=()):
        name = f"trtyard/test-{uuid.uuid4().hex}:tiny"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, content in [("file", os.urandom(size)), *files]:
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        changes = ['CMD ["/none"]']  # without one no container can be made to read from
        changes += [f'LABEL {key}="{value}"' for key, value in labels.items()]
        repository, _, tag = name.partition(":")
        engine.api.import_image_from_data(
            packed.getvalue(), repository=repository, tag=tag, changes=changes
        )
        names.append(name)
        return name

    yield make
    for name in names:
        with contextlib.suppress(Exception):
            engine.images.remove(name)


def names_here(engine, server, local=""):
    """Return the engine's names for what is in the registry, and those of the image ``local``."""
    listed = engine.api.images()
    names = {name for one in listed for key in ("RepoTags", "RepoDigests") for name in one[key]}
    repositories = [f"127.0.0.1:{server.port}/team/tiny", *filter(None, [local.partition(":")[0]])]
    return {name for name in names if re.split("[@:](?!.*/)", name)[0] in repositories}


def pull(engine, server, local, labels=LABELS):
    return pull_image(engine, docker_command(), server.image(), local, labels)


def push(engine, server, local):
    return push_image(engine, docker_command(), local, server.image())


def test_pushed_image_is_pulled_by_digest_once(engine, server, make):
    name = make()
    before = names_here(engine, server, name)
    digest = push(engine, server, name)
    assert names_here(engine, server, name) == before
    engine.images.remove(name)
    assert image_id(engine, name) is None
    read = server.reads("team/tiny/blobs/")
    assert pull(engine, server, name) == name
    assert engine.images.get(name).labels == LABELS
    assert server.reads("team/tiny/blobs/") - read == 2  # the config and the layer
    assert server.reads(f"team/tiny/manifests/{digest}") > 0
    assert names_here(engine, server, name) == before
    reads = server.reads("")
    pull(engine, server, name)
    assert server.reads("") == reads


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("another byte", IntegrityError, "does not match its digest"),
        ("cut short", EnvironmentLacksError, "is too short"),
    ],
)
def test_damaged_blob_is_refused_and_not_tagged(
    engine, server, make, monkeypatch, change, error, words
):
    monkeypatch.setattr(registry, "BACKOFF_SECONDS", (0.01,))
    name = make()
    push(engine, server, name)
    engine.images.remove(name)
    before = names_here(engine, server, name)
    blob = server.largest_blob()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content if change == "another byte" else blob.read_bytes()[:-1000])
    with pytest.raises(error, match=words):
        pull(engine, server, name)
    assert names_here(engine, server, name) == before


def damage(server, what, change):
    """Change what the registry has on its disk of the image's ``what``."""
    manifest = asked(server, "manifests/0123", repository.IMAGES)
    value = json.loads(manifest)
    digest = {
        "manifest": f"sha256:{hashlib.sha256(manifest).hexdigest()}",
        "config": value["config"]["digest"],
        "layer": value["layers"][0]["digest"],
    }[what]
    (file,) = server.data.rglob(f"blobs/sha256/*/{digest[7:]}/data")
    content = bytearray(file.read_bytes())
    if change == "a byte":  # of a time or a name in JSON, which stays JSON
        place = len(content) // 2 if what == "layer" else content.index(b"0")
        content[place] ^= 1
    file.write_bytes(content[:-50] if change == "the end" else content)
    if change == "all":
        file.unlink()


@pytest.mark.parametrize("change", ["a byte", "the end", "all"])
@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_push_replaces_damaged_blobs(engine, server, make, capfd, what, change):
    name = make()
    first = push(engine, server, name)
    for _ in range(2):  # what was replaced may be damaged in its turn
        damage(server, what, change)
        capfd.readouterr()
        digest = push(engine, server, name)
        said = capfd.readouterr().err
        # What is gone altogether the engine uploads by itself.
        assert "replaced in the registry" in said or (what, change) == ("manifest", "all")
    uploads = server.log.read_text().count('"PUT /v2/')
    assert push(engine, server, name) == digest
    assert "is already in the registry" in capfd.readouterr().err
    assert server.log.read_text().count('"PUT /v2/') == uploads
    layers = engine.images.get(name).attrs["RootFS"]["Layers"]
    engine.images.remove(name)
    pull(engine, server, name)
    assert engine.images.get(name).attrs["RootFS"]["Layers"] == layers
    assert registry.known_digests(engine, name) >= {digest}
    assert (digest == first) == (change == "all")


def test_damaged_attachment_is_replaced(engine, server, make):
    digest = push(engine, server, make())
    words = (server.image(), digest, b'{"a": 1}', "application/spdx+json")
    first = referrers.attach(*words)
    (file,) = server.data.rglob(f"blobs/sha256/*/{hashlib.sha256(words[2]).hexdigest()}/data")
    file.write_bytes(b'{"a": 2}')
    again = referrers.attach(*words)
    assert again.digest != first.digest
    manifest = json.loads(asked(server, f"manifests/{again.digest}", repository.MANIFEST))
    assert json.loads(asked(server, f"blobs/{manifest['layers'][0]['digest']}")) == {"a": 1}


def test_image_with_other_labels_is_refused_and_untagged(engine, server, make):
    name = make(labels={**LABELS, "trtyard.content": "4567"})
    push(engine, server, name)
    engine.images.remove(name)
    before = names_here(engine, server, name)
    with pytest.raises(IntegrityError, match="expected 0123, found 4567"):
        pull(engine, server, name)
    assert names_here(engine, server, name) == before


def test_missing_image_and_registry_outage_differ(engine, server, make):
    name = make()
    with pytest.raises(NotPublishedError, match="not found in the registry"):
        pull(engine, server, name)
    server.stop()
    for action in (pull, push):
        with pytest.raises(EnvironmentLacksError, match=r"cannot reach 127\.0\.0\.1:\d+"):
            action(engine, server, name)
    assert not names_here(engine, server)


@pytest.fixture
def answering():
    """Return a function that starts a registry giving one answer; it counts the requests."""
    servers = []

    def start(status):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.server.asked += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 - the base class's name

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, f"127.0.0.1:{server.server_port}/team/tiny:0123"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_refused_push_names_the_login(engine, answering):
    _, name = answering(401)
    with pytest.raises(EnvironmentLacksError, match="refused access") as caught:
        digest_of(engine, name)
    assert caught.value.hint == f"docker login {name.partition('/')[0]}"


def test_too_many_requests_is_retried_then_reported(engine, answering, monkeypatch, capsys):
    monkeypatch.setattr(registry, "BACKOFF_SECONDS", (0.01, 0.02))
    _, name = answering(429)
    with pytest.raises(EnvironmentLacksError, match="too many requests"):
        digest_of(engine, name)
    said = capsys.readouterr().err
    assert "retrying in 0.01 s" in said
    assert "retrying in 0.02 s" in said


def test_two_pushes_at_once_both_succeed(engine, server, make):
    name = make(size=5_000_000)
    with ThreadPoolExecutor() as pool:
        pushes = [
            pool.submit(
                subprocess.run, [sys.executable, "-c", PUSH, name, server.image()], cwd=ROOT
            )
            for _ in range(2)
        ]
    assert [one.result().returncode for one in pushes] == [0, 0]
    assert digest_of(engine, server.image()) == engine.images.get(name).id


@pytest.fixture
def slow(server):
    """Put a line before the registry that stops after some bytes to it.

    Give the event of its stopping, and the one that lets it go on.
    """
    stopped, go_on, behind = threading.Event(), threading.Event(), server.port

    class Line(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", behind)) as far:
                back = threading.Thread(target=self.carry, args=(far, self.request))
                back.start()
                self.carry(self.request, far, most=1_000_000)
                back.join()

        def carry(self, source, target, most=None):
            total = 0
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    total += len(data)
                    if most is not None and total > most and not go_on.is_set():
                        stopped.set()
                        go_on.wait()
                    target.sendall(data)
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    class Lines(socketserver.ThreadingTCPServer):
        daemon_threads = True  # the engine keeps a connection for a while; the registry ends it

    with Lines(("127.0.0.1", 0), Line) as line:
        threading.Thread(target=line.serve_forever, daemon=True).start()
        server.port = line.server_address[1]
        yield stopped, go_on
        go_on.set()
        server.port = behind
        line.shutdown()


def test_interrupted_push_leaves_no_tag_and_can_repeat(engine, server, make, slow):
    stopped, go_on = slow
    name = make(size=5_000_000)
    command = [sys.executable, "-c", PUSH, name, server.image()]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert stopped.wait(60)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) != 0
    with pytest.raises(NotPublishedError):
        digest_of(engine, server.image())
    assert not names_here(engine, server)
    go_on.set()
    push(engine, server, name)
    assert digest_of(engine, server.image()) == engine.images.get(name).id


def asked(server, path, kind="*/*"):
    """Return what the registry gives, by a client of its own."""
    url = f"http://127.0.0.1:{server.port}/v2/team/tiny/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": kind})) as answer:
        return answer.read()


def test_document_is_found_by_its_image(engine, server, make):
    digest = push(engine, server, make())
    done = referrers.attach(server.image(), digest, b'{"a": 1}', "application/spdx+json")
    assert done.tag == digest.replace(":", "-")
    (entry,) = json.loads(asked(server, f"manifests/{done.tag}", repository.INDEX))["manifests"]
    assert (entry["artifactType"], entry["digest"]) == ("application/spdx+json", done.digest)
    packed = asked(server, f"manifests/{entry['digest']}", entry["mediaType"])
    assert (f"sha256:{hashlib.sha256(packed).hexdigest()}", len(packed)) == (
        entry["digest"],
        entry["size"],
    )
    manifest = json.loads(packed)
    kind = manifest["subject"]["mediaType"]
    image = asked(server, f"manifests/{digest}", kind)
    assert manifest["subject"] == {"mediaType": kind, "digest": digest, "size": len(image)}
    assert f"sha256:{hashlib.sha256(image).hexdigest()}" == digest
    assert asked(server, f"blobs/{manifest['layers'][0]['digest']}") == b'{"a": 1}'
    assert digest_of(engine, server.image()) == digest


def test_attaching_is_idempotent_per_document(engine, server, make):
    digest = push(engine, server, make())
    words = (server.image(), digest)
    first = referrers.attach(*words, b"one", "application/spdx+json")
    uploads = server.log.read_text().count('"POST /v2/')
    again = referrers.attach(*words, b"one", "application/spdx+json")
    assert (again.digest, first.moved, again.moved) == (first.digest, True, False)
    assert server.log.read_text().count('"POST /v2/') == uploads
    second = referrers.attach(*words, b"two", "application/spdx+json")
    listed = json.loads(asked(server, f"manifests/{first.tag}", repository.INDEX))["manifests"]
    assert [one["digest"] for one in listed] == [first.digest, second.digest]


def test_a_document_of_no_image_is_refused(engine, server, make):
    push(engine, server, make())
    with pytest.raises(EnvironmentLacksError, match="404"):
        referrers.attach(server.image(), f"sha256:{'0' * 64}", b"x", "application/spdx+json")


@pytest.fixture
def logged_in(tmp_path, monkeypatch):
    """Return a function that leaves what ``docker login`` leaves for a registry."""

    def keep(server, **kept):
        folder = tmp_path / "docker"
        folder.mkdir(exist_ok=True)
        content = {"auths": {f"127.0.0.1:{server.port}": kept}}
        (folder / "config.json").write_text(json.dumps(content))
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    return keep


def pair_of(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_login_applies_to_image_and_attachments(start, make, logged_in):
    server = start(users=HTPASSWD)
    logged_in(server, auth=pair_of("me", "hunter2"))
    with contextlib.closing(connect()) as client:  # which reads the login when it is made
        digest = push(client, server, make())
    done = referrers.attach(server.image(), digest, b"{}", "application/spdx+json")
    assert done.moved
    assert not referrers.attach(server.image(), digest, b"{}", "application/spdx+json").moved
    logged_in(server, auth=pair_of("me", "other"))
    with pytest.raises(EnvironmentLacksError, match="401") as caught:
        referrers.attach(server.image(), digest, b"{}", "application/spdx+json")
    assert "docker login" in caught.value.hint
    assert "other" not in str(caught.value)


class Forward(BaseHTTPRequestHandler):
    """Pass requests on to the registry at ``server.behind``; ``server.asked`` lists them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS, which Docker tries first
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        else:
            super().handle()

    def reply(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        word = self.headers.get("Authorization", "")
        self.server.asked.append((self.command, self.path, word, body))
        if not self.answered(word, body):
            self.pass_on(body)

    do_GET = do_HEAD = do_POST = do_PUT = do  # noqa: N815 - the base class's names

    def answered(self, word, body):
        """Answer in the registry's place; return whether it did."""
        raise NotImplementedError

    def pass_on(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind)
        names = {*self.headers} - {"Authorization"}
        headers = {name: ", ".join(self.headers.get_all(name)) for name in names}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        skipped = ("transfer-encoding", "date", "server")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in skipped}
        self.reply(answer.status, kept, content)
        connection.close()


@contextlib.contextmanager
def in_front_of(server, handler):
    """Yield a server with that handler, and give the registry's images its port meanwhile."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as front:
        front.behind, front.asked = server.port, []
        threading.Thread(target=front.serve_forever, daemon=True).start()
        server.port = front.server_port
        yield front
        server.port = front.behind
        front.shutdown()


class Gate(Forward):
    """Ask for a token, and give it to a user who is logged in."""

    def answered(self, word, body):
        if self.path.startswith("/token"):
            by_login = word == f"Basic {pair_of('me', 'hunter2')}"
            if by_login or b"refresh_token=identity" in body:
                self.reply(200, {}, json.dumps({"token": "t0ken"}).encode())
            else:
                self.reply(401, {})
        elif word != "Bearer t0ken":
            realm = f"http://127.0.0.1:{self.server.server_port}/token"
            scope = "repository:team/tiny:pull,push"
            self.reply(
                401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="{scope}"'}
            )
        else:
            return False
        return True


class Losing(Forward):
    """Refuse the first upload of each kind as a registry does during two pushes at once."""

    def answered(self, *_):
        uploads = [one for one in self.server.asked if one[0] == "PUT"]
        manifests = [one for one in uploads if "/manifests/" in one[1]]
        if self.command != "PUT":
            return False
        if len(uploads) == 1:
            status, code = 400, "DIGEST_INVALID"
            message = "provided digest did not match uploaded content"
        elif len(manifests) == 1 and "/manifests/" in self.path:
            status, code, message = 404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"
        else:
            return False
        error = {"code": code, "message": message, "detail": f"sha256:{'0' * 64}"}
        content = json.dumps({"errors": [error]}).encode()
        self.reply(status, {"Content-Type": "application/json"}, content)
        return True


def test_lost_blobs_are_pushed_again(engine, server, make, monkeypatch, capfd):
    monkeypatch.setattr(registry, "BACKOFF_SECONDS", (0.01, 0.02))
    name = make()
    with in_front_of(server, Losing) as front:
        push(engine, server, name)
    said = capfd.readouterr().err
    assert re.search("not match uploaded content.*; retrying in 0.01 s", said)
    assert re.search("blob unknown.*; retrying in 0.02 s", said)
    assert sum(one[0] == "PUT" and "/manifests/" in one[1] for one in front.asked) == 2
    assert digest_of(engine, server.image()) == engine.images.get(name).id


@pytest.mark.parametrize(
    "kept", [{"auth": pair_of("me", "hunter2")}, {"identitytoken": "identity"}]
)
def test_a_token_is_fetched_once_and_used_for_all(engine, server, make, logged_in, kept):
    digest = push(engine, server, make())
    with in_front_of(server, Gate) as gate:
        logged_in(server, **kept)
        done = referrers.attach(server.image(), digest, b"{}", "application/spdx+json")
    assert done.moved
    tokens = [one for one in gate.asked if one[1].startswith("/token")]
    assert len(tokens) == 1
    assert "repository" in tokens[0][1] + tokens[0][3].decode()
    others = [word for _, path, word, _ in gate.asked if not path.startswith("/token")]
    assert others[0] == ""
    assert set(others[1:]) == {"Bearer t0ken"}
    assert json.loads(asked_of(server, done))["subject"]["digest"] == digest


def asked_of(server, done):
    return asked(server, f"manifests/{done.digest}", repository.MANIFEST)


def test_sbom_and_provenance_are_attached_or_skip_is_explained(engine, server, make, capfd, row):
    locked = read_lock(LOCK_FILE).row(row.name)
    inventory = {
        "schema": 2,
        "base": {},
        "debs": {"zlib1g": "1"},
        "packages": {"numpy": {"version": "2.0", "record_sha256": "2" * 64}},
        "libraries": [],
    }
    name = make(files=[(INVENTORY_PATH.lstrip("/"), json.dumps(inventory).encode())])
    digest = push(engine, server, name)

    def attach(digest):
        exchange.attach_documents(engine, row, locked, name, server.image(), digest)
        return capfd.readouterr().err

    said = attach(digest)
    attached = {
        what: re.search(rf"attached the {what}: (sha256:[0-9a-f]{{64}})", said)[1]
        for what in ("bill of materials", "provenance")
    }
    documents = {}
    for what, one in attached.items():
        manifest = json.loads(asked(server, f"manifests/{one}", repository.MANIFEST))
        assert manifest["subject"]["digest"] == digest
        documents[what] = json.loads(asked(server, f"blobs/{manifest['layers'][0]['digest']}"))
    [subject] = documents["provenance"]["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == digest
    bill = documents["bill of materials"]
    assert bill["spdxVersion"] == "SPDX-2.3"
    assert [one["name"] for one in bill["packages"]][1:] == ["zlib1g", "numpy"]
    said = attach(digest)
    for what, one in attached.items():
        assert f"already attached: {what}: {one}" in said
    said = attach(f"sha256:{'0' * 64}")
    for what in attached:
        assert f"the {what} was not attached: " in said
    assert digest_of(engine, server.image()) == digest


@pytest.fixture
def both(engine, row, tmp_path, monkeypatch):
    """Have small images under the names of the row's two; give these by stage."""
    locked, key = read_lock(LOCK_FILE).row(row.name), uuid.uuid4().hex[:12]
    monkeypatch.setattr(build, "context_key", lambda *_: key)
    monkeypatch.setattr(build, "have_bases", lambda *_: False)
    names = {stage: build.local_name(row, stage) for stage in ("final", "runtime")}
    (tmp_path / "inventory.json").write_text(
        json.dumps({"schema": 2, "base": {}, "debs": {}, "packages": {}, "libraries": []})
    )
    for stage, name in names.items():
        labels = build.content_labels(row, locked, stage)
        lines = ["FROM scratch AS code", f"COPY inventory.json /out{INVENTORY_PATH}"]
        lines += ["FROM scratch", *(f'LABEL {key}="{value}"' for key, value in labels.items())]
        lines += ['CMD ["/none"]', "COPY --from=code /out/ /"]
        (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n")
        command = [docker_command(), "buildx", "build", "--builder", "default", "--load"]
        command += ["--provenance=false", "--tag", name, tmp_path]
        subprocess.run(command, check=True, capture_output=True)
    yield names
    for name in names.values():
        with contextlib.suppress(Exception):
            engine.images.remove(name)


def test_both_images_of_a_row_are_pushed_and_pulled(engine, server, row, both):
    place, stages = f"127.0.0.1:{server.port}/team", ("final", "runtime")
    remote = exchange.push(row.name, stages=stages, registry=place)
    tag = both["final"].rpartition(":")[2]
    assert remote == [f"{place}/{row.name}:{tag}", f"{place}/{row.name}-runtime:{tag}"]
    for name in both.values():
        engine.images.remove(name)
    assert exchange.pull(row.name, stages=["runtime"], registry=place) == [both["runtime"]]
    assert image_id(engine, both["final"]) is None
    assert exchange.pull(row.name, stages=stages, registry=place) == list(both.values())
    titles = [engine.images.get(name).labels[build.TITLE_LABEL] for name in both.values()]
    assert titles == [f"trtyard {row.name}", f"trtyard {row.name} runtime"]


def test_swapped_images_are_not_pushed(engine, server, row, both):
    place = f"127.0.0.1:{server.port}/team"
    engine.images.get(both["runtime"]).tag(both["final"])
    with pytest.raises(
        IntegrityError, match=r"label org\.opencontainers\.image\.title is .* runtime"
    ):
        exchange.push(row.name, registry=place)


def base(image, digest=UNRESOLVED):
    return BaseImage(
        image=image,
        suite="bookworm",
        contents="vendor",
        digest=digest,
        digest_kind="unknown",
        platform_digest="",
    )


def test_base_image_resolves_to_digest_and_kind(engine, server, make):
    pushed = push(engine, server, make())
    locked, unresolved = resolve_base(base(server.image()))
    assert (locked.digest, locked.digest_kind, unresolved) == (pushed, "platform", ())
    index = [docker_command(), "buildx", "imagetools", "create", "--tag", server.image("index")]
    subprocess.run([*index, server.image()], check=True, capture_output=True)
    locked, unresolved = resolve_base(base(server.image("index")))
    assert locked.digest == digest_of(engine, server.image("index")) != pushed
    assert (locked.digest_kind, locked.platform_digest) == ("index", pushed)
    again, _ = resolve_base(base(server.image("index"), locked.digest))
    assert again == locked


def test_moved_tag_is_reported_and_the_pin_kept(engine, server, make, capfd):
    pinned = push(engine, server, make())
    moved = push(engine, server, make())
    assert moved != pinned
    locked, unresolved = resolve_base(base(server.image(), pinned))
    assert (locked.digest, unresolved) == (pinned, ())
    said = capfd.readouterr().err
    assert f"is now {moved}; versions.toml pins {pinned}, which stays locked" in said


def test_unreachable_registry_keeps_pin_or_is_unresolved(engine, server):
    server.stop()
    pin = "sha256:" + "1" * 64
    locked, unresolved = resolve_base(base(server.image(), pin))
    assert (locked.digest, locked.digest_kind, unresolved) == (pin, "unknown", ())
    locked, unresolved = resolve_base(base(server.image()))
    assert locked.digest == UNRESOLVED
    assert [(one.kind, one.version) for one in unresolved] == [("base-image", "0123")]


def test_build_pulls_base_from_mirror_by_same_digest(engine, server, make, tmp_path):
    """As ``bake_command`` names it: the reference of the Dockerfile, dots and all, by --set."""
    digest = push(engine, server, make())
    reference = f"registry.invalid/team/tiny@{digest}"
    (tmp_path / "Dockerfile").write_text(f"FROM {reference}\nLABEL taken=here\n")
    target = {"context": ".", "output": ["type=cacheonly"]}
    (tmp_path / "bake.json").write_text(json.dumps({"target": {"x": target}}))
    mirror = f"127.0.0.1:{server.port}/team/tiny@{digest}"
    bake = [docker_command(), "buildx", "bake", "--file", "bake.json", "--progress", "plain"]
    setting = f"x.contexts.{reference}=docker-image://{mirror}"
    done = subprocess.run(
        [*bake, "--set", setting, "x"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    without = subprocess.run([*bake, "x"], cwd=tmp_path, capture_output=True, text=True)
    assert without.returncode != 0
    assert "registry.invalid" in without.stderr
