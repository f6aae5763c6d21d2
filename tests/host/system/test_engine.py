import gc
import socket
import warnings

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system import docker_engine as engine


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that puts a docker command into the next folder of PATH."""
    folders = []
    # The packaged command must not be found behind the test's own.
    monkeypatch.setattr(engine, "PACKAGED_COMMANDS", "")

    def add(buildx):
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        script = folder / "docker"
        answer = f"echo github.com/docker/buildx {buildx} 0" if buildx else "exit 1"
        script.write_text(f"#!/bin/sh\n{answer}\n")
        script.chmod(0o755)
        folders.append(str(folder))
        monkeypatch.setenv("PATH", ":".join(folders))
        return script

    monkeypatch.setenv("PATH", str(tmp_path))
    return add


def test_missing_docker_error_says_how_to_install(commands):
    with pytest.raises(EnvironmentLacksError, match="docker command is not installed") as caught:
        engine.docker_command()
    assert "install-docker" in caught.value.hint


def test_client_with_buildx_is_found_after_one_without(commands):
    commands(buildx=None)
    second = commands(buildx="v0.29.1+ds1")
    assert engine.docker_command() == second


def test_the_commands_behind_the_first_fit_one_are_not_run(commands, tmp_path):
    first = commands(buildx="0.29.1")
    behind = commands(buildx="0.30.0")
    behind.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    assert engine.docker_command() == first
    assert not (tmp_path / "ran").exists()


def test_docker_without_buildx_is_not_enough(commands):
    commands(buildx=None)
    with pytest.raises(EnvironmentLacksError, match="buildx is not installed"):
        engine.docker_command()


def test_other_programs_version_is_not_buildx(commands):
    script = commands(buildx="0.29.1")
    script.write_text("#!/bin/sh\necho buildah 1.33.7\n")
    with pytest.raises(EnvironmentLacksError, match="buildx is not installed"):
        engine.docker_command()


def test_old_buildx_is_refused_with_its_version(commands):
    commands(buildx="0.9.1")
    with pytest.raises(EnvironmentLacksError, match=r"buildx is 0\.9; 0\.12 or newer"):
        engine.docker_command()


def test_engine_with_wrong_api_or_architecture_is_an_error():
    fit = {"Version": "28.5.2+dfsg4", "ApiVersion": "1.51", "Arch": "amd64"}
    engine.require_builder(fit)
    engine.require_builder({**fit, "Version": "25.0.0", "ApiVersion": "1.44"})
    old = {**fit, "Version": "20.10.24+dfsg1", "ApiVersion": "1.41"}  # Debian 12's own
    with pytest.raises(EnvironmentLacksError, match=r"is 20\.10\.24\+dfsg1; 25 or newer") as caught:
        engine.require_builder(old)
    assert "install-docker" in caught.value.hint
    with pytest.raises(EnvironmentLacksError, match="runs on arm64, but the images are for amd64"):
        engine.require_builder({**fit, "Arch": "arm64"})


def test_an_engine_elsewhere_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as taken:  # a port where nobody listens, nor can while it is taken
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(EnvironmentLacksError, match=address):
            engine.connect()


def explained(monkeypatch, path):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "SOCKET", path)
    return engine._connection_error(OSError("refused"))


def test_missing_and_stopped_engine_have_different_hints(monkeypatch, tmp_path, commands):
    error = explained(monkeypatch, tmp_path / "docker.sock")
    assert "no Docker engine" in error.message
    script = commands(buildx="1.0.0")
    script.rename(script.with_name("dockerd"))
    error = explained(monkeypatch, tmp_path / "docker.sock")
    assert "not running" in error.message
    assert "systemctl start" in error.hint


def test_user_without_access_gets_the_usermod_hint(monkeypatch, tmp_path):
    (tmp_path / "docker.sock").touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may open every file
    error = explained(monkeypatch, tmp_path / "docker.sock")
    assert "no access to the Docker engine" in error.message
    assert "usermod -aG docker" in error.hint


def test_dead_socket_is_reported(monkeypatch, tmp_path):
    (tmp_path / "docker.sock").touch()
    error = explained(monkeypatch, tmp_path / "docker.sock")
    assert "does not answer" in error.message


@pytest.mark.parametrize("there", [False, True])
def test_failed_connection_leaks_no_socket(monkeypatch, tmp_path, there):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 characters
    if there:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("docker.sock")
    monkeypatch.setenv("DOCKER_HOST", "unix://docker.sock")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(EnvironmentLacksError, match="no Docker engine answers at"):
            engine.connect()
        gc.collect()
    assert [str(one.message) for one in caught] == []
