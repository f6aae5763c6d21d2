"""A proxy of this machine's environment in a build, as buildx itself reads the command."""

import json
import os
import subprocess

import pytest

from trtyard.build.bake import DEFAULT_BUILDER, Plan
from trtyard.lock.file import read_lock
from trtyard.system.docker_engine import docker_command
from trtyard.system.uv import LOCK_FILE, ROOT

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def arguments_of(engine, row, monkeypatch):
    """Return a function that gives the arguments of a build under these variables."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def read(store=None, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        locked = read_lock(LOCK_FILE).row(row.name)
        plan = Plan(
            row=row, locked=locked, base="local", local=(), image="trtyard/x:1", store=store
        )
        words = [str(word) for word in plan.command(docker_command(), DEFAULT_BUILDER)]
        assert "s3cret" not in str(words)
        env = {**os.environ, "BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
        command = [*words, "--print"]
        done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
        arguments = json.loads(done.stdout)["target"][plan.target]["args"]
        del arguments["SOURCE_DATE_EPOCH"]
        return arguments

    return read


def test_proxy_reaches_steps_and_password_stays_hidden(arguments_of):
    variables = {
        "HTTPS_PROXY": "http://someone:s3cret@proxy.example.org:3128",
        "http_proxy": "proxy.example.org:3128",
        "no_proxy": "example.org",
    }
    assert arguments_of(**variables) == variables


def test_unreachable_proxy_is_not_passed(arguments_of):
    assert arguments_of(HTTPS_PROXY="http://127.0.0.1:3128", NO_PROXY="example.org") == {}
    assert arguments_of(http_proxy="localhost:3128") == {}


def test_a_build_without_a_network_has_no_proxy(arguments_of, tmp_path):
    assert arguments_of(store=tmp_path, HTTPS_PROXY="http://proxy.example.org:3128") == {}
