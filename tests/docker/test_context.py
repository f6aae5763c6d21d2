"""The docker context in use, with a second way to this machine's engine."""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import pytest

from trtyard.system.docker_engine import SOCKET, docker_command
from trtyard.system.uv import ROOT


class Relay:
    """Hands on what comes to a socket to the engine, and counts the connections."""

    def __init__(self, path):
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(50)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with self.listener:
            while (client := self.listener.accept()[0]) and client.recv(1, socket.MSG_PEEK) != b"!":
                self.connections += 1
                threading.Thread(target=self.hand_on, args=(client,), daemon=True).start()
            client.close()

    def hand_on(self, client):
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(SOCKET))
            back = threading.Thread(target=self.copy, args=(engine, client), daemon=True)
            back.start()
            self.copy(client, engine)
            back.join()

    def copy(self, one, other):
        with contextlib.suppress(OSError):
            while piece := one.recv(1 << 16):
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)

    def close(self):
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.listener.getsockname())
            last.sendall(b"!")


@pytest.fixture
def context(engine, tmp_path, monkeypatch):
    """Return the socket of the docker context in use, behind which nobody answers yet."""
    if os.environ.get("DOCKER_HOST"):
        pytest.skip("DOCKER_HOST is set, which comes before any context")
    place = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    for words in (("create", "other", "--docker", f"host=unix://{place}"), ("use", "other")):
        command = [docker_command(), "context", *words]
        subprocess.run(command, check=True, capture_output=True)
    return place


def task(*words):
    command = [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_dead_docker_context_is_named_in_the_error(context):
    done = task("inspect")
    assert done.returncode == 3
    assert f"unix://{context}, the address of the docker context" in done.stderr
    assert "docker context use default" in done.stderr


def test_missing_docker_context_is_named(context, monkeypatch):
    monkeypatch.setenv("DOCKER_CONTEXT", "none")
    done = task("inspect")
    assert done.returncode == 3
    assert "the docker context none cannot be read" in done.stderr


def test_builder_uses_the_docker_context(context):
    script = (
        "import subprocess\n"
        "from trtyard.system.docker_engine import connect, context_variables, docker_command\n"
        "from trtyard.build.bake import DEFAULT_BUILDER\n"
        "connect().version()\n"
        "input(context_variables()['DOCKER_HOST'] + '\\n')\n"
        "command = [docker_command(), 'buildx', 'inspect', '--bootstrap', DEFAULT_BUILDER]\n"
        "subprocess.run(command, check=True)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        contextlib.closing(Relay(context)) as relay,
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, **pipes) as child,
    ):
        assert child.stdout.readline() == f"unix://{context}\n"
        of_the_client = relay.connections
        said, _ = child.communicate("\n")
    assert child.returncode == 0
    assert "running" in said
    assert relay.connections > of_the_client > 0
