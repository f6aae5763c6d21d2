"""A repository in a registry, over HTTP without Docker: OCI distribution specification 1.1."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from trtyard.fetching.http import http_session
from trtyard.registry.login import LOCAL, Login
from trtyard.system.docker_engine import ANSWER_SECONDS

if TYPE_CHECKING:
    from requests import Response

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGES = (
    f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json"
)
_NOT_FOUND = 404


class Repository:
    """Sends requests to paths below ``/v2/NAME/``; like Docker, over plain HTTP only to localhost.

    Errors are exceptions of requests.
    """

    def __init__(self, host: str, name: str, *, retries: int) -> None:
        local = host.partition(":")[0] in LOCAL
        self.place = f"{'http' if local else 'https'}://{host}/v2/{name}/"
        self.session = http_session(retries=retries)
        # Never through a proxy to localhost.
        self.session.trust_env = not local
        self.session.auth = Login(self.session, urlsplit(self.place).netloc)

    @classmethod
    def of(cls, image: str, *, retries: int = 5) -> "Repository":
        """Return the repository of an image's name ``HOST/NAME:TAG``."""
        host, _, name = image.rpartition(":")[0].partition("/")
        return cls(host, name, retries=retries)

    def ask(self, method: str, path: str, **options: Any) -> "Response":
        """Return the response, with any status."""
        url = urljoin(self.place, path)
        return self.session.request(method, url, timeout=ANSWER_SECONDS, **options)

    def done(self, method: str, path: str, **options: Any) -> "Response":
        """Return the response; raise ``HTTPError`` for an error status."""
        answer = self.ask(method, path, **options)
        answer.raise_for_status()
        return answer

    def found(self, method: str, path: str, **options: Any) -> "Response | None":
        """Return the response, or None if it is 404; raise ``HTTPError`` for other errors."""
        answer = self.ask(method, path, **options)
        if answer.status_code == _NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer

    def configuration(self, reference: str) -> dict[str, Any]:
        """Return an image's configuration; ``ValueError`` if the reference is no single image."""
        manifest = self.done("GET", f"manifests/{reference}", headers={"Accept": IMAGES}).json()
        if "config" not in manifest:
            raise ValueError(f"{reference} has no configuration")
        found = self.done("GET", f"blobs/{manifest['config']['digest']}").json()
        if not isinstance(found, dict):
            raise ValueError(f"the configuration of {reference} is no object")
        return found

    def digest(self, tag: str) -> str:
        """Return the digest of a tag, or "" if the tag does not exist; reads no content."""
        answer = self.found("HEAD", f"manifests/{tag}", headers={"Accept": IMAGES})
        return answer.headers.get("Docker-Content-Digest", "") if answer else ""
