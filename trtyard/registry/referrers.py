"""A document beside an image in a registry: an artifact whose subject is the image.

OCI distribution specification 1.1, "Pushing manifests with subject" and "Referrers tag schema": a
registry that does not keep track of subjects itself gets an index under a tag made of the image's
digest, where clients look for it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from trtyard.core.errors import EnvironmentLacksError
from trtyard.registry.repair import problem_of, upload
from trtyard.registry.repository import IMAGES, INDEX, MANIFEST, Repository

_ATTEMPTS = 4  # at a blob whose digest the registry has with other bytes
_EMPTY = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What stands in the registry now."""

    digest: str  # of the artifact's manifest
    tag: str  # the fallback tag, "" where the registry keeps track of subjects
    moved: bool  # False where all of it was there


def attach(remote: str, digest: str, content: bytes, media_type: str) -> Attached:
    """Put ``content`` beside the image ``remote`` with that digest.

    Done twice it changes nothing. ``EnvironmentLacksError`` where the registry is not there, does
    not take it, or wants another login than ``docker login`` keeps.
    """
    from requests import RequestException

    repository = Repository.of(remote)
    try:
        return _attach(repository, digest, content, media_type)
    except RequestException as error:
        host = remote.partition("/")[0]
        raise EnvironmentLacksError(
            f"{host} does not take what belongs to {remote}: {error}",
            f"docker login {host}, if it wants one; else to a file: ./run inspect --sbom",
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
    # Put even where it is there: the answer alone says who keeps track of subjects.
    answer = repository.done("PUT", path, data=packed, headers={"Content-Type": MANIFEST})
    if "OCI-Subject" in answer.headers:
        return Attached(digest=entry["digest"], tag="", moved=moved)
    tag = digest.replace(":", "-")
    listed = _add_to_index(repository, tag, entry)
    return Attached(digest=entry["digest"], tag=tag, moved=moved or listed)


def _blob(repository: Repository, content: bytes, media_type: str) -> dict[str, Any]:
    """Have the blob in the registry, as it was given; return its descriptor.

    Where the registry keeps a damaged one of that digest, it gets one with a line break more.
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
    """Add to what the tag lists already; return whether it did not have it."""
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
