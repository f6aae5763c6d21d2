"""Answering a registry's question who one is, against a server on loopback."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from trtyard.registry.login import Login

PAIR = base64.b64encode(b"me:hunter2").decode()


class Registry:
    """Refuses whoever does not give the ``wanted`` header, with a challenge."""

    def __init__(self, challenge, wanted, issued="t0ken"):
        self.seen, this = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers.get("Authorization")
                this.seen.append((self.path, given))
                if self.path.startswith("/token"):
                    self.reply(200, {}, json.dumps({"token": issued} if issued else {}).encode())
                elif given == wanted:
                    self.reply(200, {}, b"whole")
                else:
                    where = f"http://{this.host}/token"
                    self.reply(401, {"WWW-Authenticate": challenge.replace("HERE", where)}, b"")

            def reply(self, code, headers, content):
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Return a function that asks a registry twice; it gives the last answer's status."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    opened = []

    def ask(registry, kept):
        opened.append(registry.server)
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: kept}}))
        with requests.Session() as session:
            session.trust_env = False
            login = Login(session, registry.host)
            for _ in range(2):
                with session.get(f"http://{registry.host}/v2/x", auth=login, timeout=20) as answer:
                    status = answer.status_code
        return status

    yield ask
    for server in opened:
        server.shutdown()
        server.server_close()


def test_basic_login_is_sent_without_asking_again(ask):
    registry = Registry('Basic realm="x"', f"Basic {PAIR}")
    assert ask(registry, {"auth": PAIR}) == 200
    assert registry.seen == [
        ("/v2/x", None),
        ("/v2/x", f"Basic {PAIR}"),
        ("/v2/x", f"Basic {PAIR}"),
    ]


def test_token_is_fetched_for_the_requested_scope(ask):
    challenge = 'Bearer realm="HERE",service="s",scope="repository:x:pull",account="me"'
    registry = Registry(challenge, "Bearer t0ken")
    assert ask(registry, {"auth": PAIR}) == 200
    assert registry.seen[1] == ("/token?service=s&scope=repository%3Ax%3Apull", f"Basic {PAIR}")
    assert [path for path, _ in registry.seen].count(registry.seen[1][0]) == 1


def test_anonymous_token_is_fetched_without_login(ask):
    registry = Registry('Bearer realm="HERE"', "Bearer t0ken")
    assert ask(registry, {}) == 200
    assert registry.seen[1] == ("/token", None)


@pytest.mark.parametrize(
    ("challenge", "kept", "token"),
    [
        ('Basic realm="x"', {}, "t0ken"),
        ('Digest realm="x"', {"auth": PAIR}, "t0ken"),
        ("", {"auth": PAIR}, "t0ken"),
        ('Bearer realm="HERE"', {"auth": PAIR}, ""),  # the server gives none
        ('Bearer realm="http://token.example.org/"', {"auth": PAIR}, "t0ken"),  # in the clear
    ],
)
def test_unanswerable_challenge_gets_no_credentials(ask, challenge, kept, token):
    registry = Registry(challenge, "none is right", token)
    assert ask(registry, kept) == 401
    assert {given for path, given in registry.seen if path == "/v2/x"} == {None}


def test_wrong_credentials_are_sent_once(ask):
    registry = Registry('Basic realm="x"', "another one")
    assert ask(registry, {"auth": PAIR}) == 401
    assert len(registry.seen) == 3
