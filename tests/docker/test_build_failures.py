"""Known failures of image builds that BuildKit itself reports, provoked with a real one."""

import os
import shutil

import pytest
from test_registry import Server

from trtyard.build.buildkit import explained
from trtyard.core.errors import EnvironmentLacksError
from trtyard.known_failures.explanation import explain
from trtyard.run.selftest import REQUIRE_DOCKER
from trtyard.system.docker_engine import docker_command
from trtyard.system.processes import CommandError, check


@pytest.fixture
def registry(engine, tmp_path):
    """Return an empty registry on loopback."""
    if shutil.which("docker-registry") is None:
        if os.environ.get(REQUIRE_DOCKER) == "1":
            pytest.fail("docker-registry is not installed")
        pytest.skip("docker-registry is not installed")
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize("named", ["tag", "digest"])
def test_missing_base_image_is_known(registry, named, tmp_path, capfd):
    image = registry.image("gone" if named == "tag" else "")
    reference = image if named == "tag" else f"{image.rstrip(':')}@sha256:{'0' * 64}"
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {reference}\n")
    with pytest.raises(CommandError) as failure:
        check([docker_command(), "buildx", "build", "--progress=plain", folder])
    capfd.readouterr()
    assert explain(failure.value.tail)[0].failure.name == "base-image-gone"
    error = explained(failure.value)
    assert isinstance(error, EnvironmentLacksError)
    assert "why: the registry does not have an image" in error.message
    assert "mirrors.toml" in error.hint
