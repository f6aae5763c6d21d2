"""Attach a document to an image in a registry, as an artifact whose subject is the image.

OCI distribution specification 1.1, "Pushing manifests with subject" and "Referrers tag schema".
Registries without the referrers API get an index under a tag that is made of the image's digest;
clients look for it there.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from trtyard.core.errors import EnvironmentLacksError
from trtyard.registry.repair import problem_of, upload
from trtyard.registry.repository import IMAGES, INDEX, MANIFEST, Repository

_ATTEMPTS = 4  # to replace a blob that is damaged in the registry
_EMPTY = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, kw_only=True)
class Attached:
    """The artifact in the registry."""

    digest: str  # of the artifact's manifest
    tag: str  # the fallback tag; "" if the registry has the referrers API
    moved: bool  # False if the registry had all of it already


def attach(remote: str, digest: str, content: bytes, media_type: str) -> Attached:
    """Attach ``content`` to the image ``remote`` with that digest; a second call changes nothing.

    Raises ``EnvironmentLacksError`` if the registry cannot be reached, refuses the artifact or the
    stored credentials.
    """
    from requests import RequestException

    repository = Repository.of(remote)
    try:
        return _attach(repository, digest, content, media_type)
    except RequestException as error:
        host = remote.partition("/")[0]
        raise EnvironmentLacksError(
            f"{host} refuses an attachment of {remote}: {error}",
            f"log in: docker login {host}; or write it to a file: ./run inspect --sbom",
        ) from None


def _attach(repository: Repository, digest: str, content: bytes, media_type: str) -> Attached:
    image = repository.done("GET", f"manifests/{digest}", headers={"Accept": IMAGES})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": media_type,
        "config": _blob(repository, b"{}", _EMPTY),
        "layers": [_blob(repository, content, media_type)],
        "subject": {
            "mediaType": image.headers["Content-Type"],
            "digest": digest,
            "size": len(image.content),
        },
    }
    packed = json.dumps(manifest, sort_keys=True).encode()
    entry = {**_described(packed, MANIFEST), "artifactType": media_type}
    path = f"manifests/{entry['digest']}"
    moved = repository.found("HEAD", path, headers={"Accept": MANIFEST}) is None
    # Uploaded even if it exists: only the response tells whether the registry has referrers.
    answer = repository.done("PUT", path, data=packed, headers={"Content-Type": MANIFEST})
    if "OCI-Subject" in answer.headers:
        return Attached(digest=entry["digest"], tag="", moved=moved)
    tag = digest.replace(":", "-")
    listed = _add_to_index(repository, tag, entry)
    return Attached(digest=entry["digest"], tag=tag, moved=moved or listed)


def _blob(repository: Repository, content: bytes, media_type: str) -> dict[str, Any]:
    """Upload the blob unless the registry has it intact; return its descriptor.

    If the registry has a damaged blob of that digest and keeps it, a line break is added to
    ``content`` for another digest.
    """
    for _ in range(_ATTEMPTS):
        described = _described(content, media_type)
        if problem_of(repository, described["digest"]) is None:
            return described
        upload(repository, described["digest"], content)
        if problem_of(repository, described["digest"]) is None:
            return described
        content += b"\n"
    raise EnvironmentLacksError(f"{described['digest']} is damaged and cannot be replaced")


def _add_to_index(repository: Repository, tag: str, entry: dict[str, Any]) -> bool:
    """Add ``entry`` to the index under the tag; return whether it was missing there."""
    answer = repository.found("GET", f"manifests/{tag}", headers={"Accept": INDEX})
    listed: list[dict[str, Any]] = answer.json()["manifests"] if answer else []
    if entry in listed:
        return False
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*listed, entry]}
    packed = json.dumps(index, sort_keys=True).encode()
    repository.done("PUT", f"manifests/{tag}", data=packed, headers={"Content-Type": INDEX})
    return True


def _described(content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
