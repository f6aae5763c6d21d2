"""A document beside an image in a registry: an artifact whose subject is the image.

OCI distribution specification 1.1, "Pushing manifests with subject" and "Referrers tag schema": a
registry that does not keep track of subjects itself gets an index under a tag made of the image's
digest, where clients look for it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from trtyard.engine import ANSWER_SECONDS
from trtyard.pipeline.errors import EnvironmentLacksError
from trtyard.registry_login import LOCAL, Login
from trtyard.store import http_session

if TYPE_CHECKING:
    from requests import Response

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGES = (
    f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json"
)
_EMPTY = "application/vnd.oci.empty.v1+json"
_NOT_FOUND = 404


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

    host, _, name = remote.rpartition(":")[0].partition("/")
    # As the engine does.
    local = host.partition(":")[0] in LOCAL
    place = f"{'http' if local else 'https'}://{host}/v2/{name}/"
    try:
        return _Repository(place).attach(digest, content, media_type)
    except RequestException as error:
        raise EnvironmentLacksError(
            f"{host} does not take what belongs to {remote}: {error}",
            f"docker login {host}, if it wants one; else to a file: ./run inspect --sbom",
        ) from None


class _Repository:
    def __init__(self, place: str) -> None:
        self.place, self.session = place, http_session()
        # No proxy stands before this machine itself.
        self.session.trust_env = place.startswith("https:")
        self.session.auth = Login(self.session, urlsplit(place).netloc)

    def ask(self, method: str, path: str, **options: Any) -> "Response":
        url = urljoin(self.place, path)
        return self.session.request(method, url, timeout=ANSWER_SECONDS, **options)

    def done(self, method: str, path: str, **options: Any) -> "Response":
        answer = self.ask(method, path, **options)
        answer.raise_for_status()
        return answer

    def there(self, path: str, **options: Any) -> bool:
        answer = self.ask("HEAD", path, **options)
        if answer.status_code != _NOT_FOUND:
            answer.raise_for_status()
        return answer.status_code != _NOT_FOUND

    def attach(self, digest: str, content: bytes, media_type: str) -> Attached:
        image = self.done("GET", f"manifests/{digest}", headers={"Accept": _IMAGES})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": self.blob(b"{}", _EMPTY),
            "layers": [self.blob(content, media_type)],
            "subject": {
                "mediaType": image.headers["Content-Type"],
                "digest": digest,
                "size": len(image.content),
            },
        }
        packed = json.dumps(manifest, sort_keys=True).encode()
        entry = {**_described(packed, MANIFEST), "artifactType": media_type}
        path = f"manifests/{entry['digest']}"
        moved = not self.there(path, headers={"Accept": MANIFEST})
        # Put even where it is there: the answer alone says who keeps track of subjects.
        answer = self.done("PUT", path, data=packed, headers={"Content-Type": MANIFEST})
        if "OCI-Subject" in answer.headers:
            return Attached(digest=entry["digest"], tag="", moved=moved)
        tag = digest.replace(":", "-")
        listed = self.add_to_index(tag, entry)
        return Attached(digest=entry["digest"], tag=tag, moved=moved or listed)

    def blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Have the blob in the registry; return its descriptor."""
        described = _described(content, media_type)
        if not self.there(f"blobs/{described['digest']}"):
            place = self.done("POST", "blobs/uploads/").headers["Location"]
            self.done(
                "PUT",
                place,
                params={"digest": described["digest"]},
                data=content,
                headers={"Content-Type": "application/octet-stream"},
            )
        return described

    def add_to_index(self, tag: str, entry: dict[str, Any]) -> bool:
        """Add to what the tag lists already; return whether it did not have it."""
        answer = self.ask("GET", f"manifests/{tag}", headers={"Accept": INDEX})
        listed: list[dict[str, Any]] = []
        if answer.status_code != _NOT_FOUND:
            answer.raise_for_status()
            listed = answer.json()["manifests"]
        if entry in listed:
            return False
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*listed, entry]}
        packed = json.dumps(index, sort_keys=True).encode()
        self.done("PUT", f"manifests/{tag}", data=packed, headers={"Content-Type": INDEX})
        return True


def _described(content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
