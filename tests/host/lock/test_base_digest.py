"""What a manifest's bytes are; asking a real registry is tested in tests/docker."""

import hashlib
import json

import pytest

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.lock.base_digest import inspect, read_manifest

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.distribution.manifest"
AMD64 = "sha256:" + "a" * 64


def raw(media, *platforms):
    manifests = [
        {"digest": digest, "platform": {"os": system, "architecture": architecture}}
        for system, architecture, digest in platforms
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": media, "manifests": manifests}).encode()


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("media", [f"{OCI}.index.v1+json", f"{DOCKER}.list.v2+json"])
def test_index_resolves_to_linux_amd64(media):
    attestation = ("unknown", "unknown", "sha256:" + "c" * 64)
    content = raw(
        media, ("linux", "arm64", "sha256:" + "b" * 64), ("linux", "amd64", AMD64), attestation
    )
    found = read_manifest(content, "example.org/base:1")
    assert (found.kind, found.digest, found.platform_digest) == ("index", digest_of(content), AMD64)


@pytest.mark.parametrize("media", [f"{OCI}.manifest.v1+json", f"{DOCKER}.v2+json"])
def test_single_manifest_is_of_kind_platform(media):
    content = raw(media)
    found = read_manifest(content, f"example.org/base@{digest_of(content)}")
    assert (found.kind, found.digest, found.platform_digest) == ("platform", digest_of(content), "")


def test_manifest_with_another_digest_is_an_error():
    content = raw(f"{OCI}.index.v1+json", ("linux", "amd64", AMD64))
    with pytest.raises(IntegrityError) as caught:
        read_manifest(content + b"\n", f"example.org/base@{digest_of(content)}")
    assert digest_of(content) in caught.value.message
    assert digest_of(content + b"\n") in caught.value.message


def test_unreachable_registry_error_has_the_clients_last_line(monkeypatch, tmp_path):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho trying >&2\necho no route to host >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setattr("trtyard.lock.base_digest.docker_command", lambda: docker)
    with pytest.raises(EnvironmentLacksError, match=r"example\.org/base:1 .*: no route to host$"):
        inspect("example.org/base:1")


def test_manifest_is_fetched_without_conversion(monkeypatch, tmp_path):
    docker, content = tmp_path / "docker", raw(f"{OCI}.index.v1+json", ("linux", "amd64", AMD64))
    (tmp_path / "raw").write_bytes(content)
    docker.write_text(
        f'#!/bin/sh\n[ "$*" = "buildx imagetools inspect --raw example.org/base:1" ] || exit 1\n'
        f'cat "{tmp_path}/raw"\n'
    )
    docker.chmod(0o755)
    monkeypatch.setattr("trtyard.lock.base_digest.docker_command", lambda: docker)
    assert inspect("example.org/base:1").digest == digest_of(content)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"mediaType": 1}x'])
def test_invalid_manifest_is_an_error(content):
    with pytest.raises(IntegrityError, match="is not a manifest"):
        read_manifest(content, "example.org/base:1")


def test_an_index_without_the_platform_is_refused():
    content = raw(f"{OCI}.index.v1+json", ("linux", "arm64", AMD64))
    with pytest.raises(IntegrityError, match="no manifest for linux/amd64"):
        read_manifest(content, "example.org/base:1")
