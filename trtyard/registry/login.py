"""Authentication against a registry with the credentials that ``docker login`` stores.

Supports HTTP Basic (RFC 7617) and bearer tokens from the token server that the registry names
(distribution's "Token Authentication Specification"). Credentials are sent only to the registry's
host and to that token server, and only over HTTPS or to localhost.
"""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trtyard.system.docker_engine import ANSWER_SECONDS

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

LOCAL = ("localhost", "127.0.0.1")
_UNAUTHORIZED = 401
_CLIENT = "trtyard"


class Login:
    """A session's ``auth``: answers the first 401 and reuses that answer for later requests."""

    def __init__(self, session: "Session", host: str) -> None:
        self.session, self.host, self.answer = session, host, ""

    def __call__(self, request: "PreparedRequest") -> "PreparedRequest":
        """Add the known Authorization header to the request, and retry it once after a 401."""
        if self._is_own(request):
            if self.answer:
                request.headers["Authorization"] = self.answer
            request.register_hook("response", self._again)
        return request

    def _is_own(self, request: "PreparedRequest") -> bool:
        # An upload or a redirect may lead to another host, which must not get the credentials.
        return urlsplit(str(request.url)).netloc == self.host

    def _again(self, response: "Response", **options: Any) -> "Response":
        """Send the request again with the Authorization header that a 401 asks for."""
        refused = response.status_code == _UNAUTHORIZED and self._is_own(response.request)
        answer = self._answer_to(response.headers.get("WWW-Authenticate", "")) if refused else ""
        if not answer or answer == response.request.headers.get("Authorization"):
            return response
        self.answer = answer
        response.content  # noqa: B018 - reads to the end, so that the connection is free again
        request = response.request.copy()
        request.headers["Authorization"] = answer
        again = response.connection.send(request, **options)
        again.history.append(response)
        again.request = request
        return again

    def _answer_to(self, challenge: str) -> str:
        """Return the ``Authorization`` header for a challenge, or "" without credentials for it."""
        from requests.utils import parse_dict_header

        scheme, _, rest = challenge.partition(" ")
        kept = credentials(self.host)
        if scheme.lower() == "basic" and "username" in kept:
            pair = f"{kept['username']}:{kept['password']}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        if scheme.lower() == "bearer":
            asked = parse_dict_header(rest)
            token = self._token(str(asked.pop("realm", "")), asked, kept)
            return f"Bearer {token}" if token else ""
        return ""

    def _token(self, realm: str, asked: Mapping[str, Any], kept: Mapping[str, str]) -> str:
        place = urlsplit(realm)
        if place.scheme != "https" and place.hostname not in LOCAL:
            return ""
        asked = {key: value for key, value in asked.items() if key in ("service", "scope")}
        if "identitytoken" in kept:
            wanted = {
                **asked,
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": kept["identitytoken"],
            }
            answer = self.session.post(realm, data=wanted, auth=_nobody, timeout=ANSWER_SECONDS)
        else:
            auth = (kept["username"], kept["password"]) if "username" in kept else _nobody
            answer = self.session.get(realm, params=asked, auth=auth, timeout=ANSWER_SECONDS)
        if not answer.ok:
            return ""
        found = answer.json()
        return str(found.get("token") or found.get("access_token") or "")


def credentials(host: str) -> dict[str, str]:
    """Return the credentials that ``docker login`` stores for a registry.

    The keys are ``username`` and ``password``, or ``identitytoken``; empty without a login.
    """
    from docker.auth import load_config
    from docker.errors import DockerException

    try:
        kept = load_config().resolve_authconfig(host) or {}
    except DockerException:  # for example a configured credential helper that is not installed
        return {}
    found = {key.lower(): str(value) for key, value in kept.items() if value}
    if "identitytoken" in found:
        return {"identitytoken": found["identitytoken"]}
    pair = ("username", "password")
    return {key: found[key] for key in pair} if found.keys() >= set(pair) else {}


def _nobody(request: "PreparedRequest") -> "PreparedRequest":
    """Return the request unchanged: without credentials, not even those of a netrc file."""
    return request
