"""HTTP sessions and logins for all downloads of the host side."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from requests import Session

# uv's settings that name package indexes: addresses, perhaps with a name: NAME=ADDRESS.
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_PORTS = {"http": 80, "https": 443}
# A longer value in an address's query may be a signature or a token.
_LONGEST_SHOWN = 8


def http_session(*, retries: int = 5) -> "Session":
    """Return an HTTP session that retries when the server is busy or the connection fails."""
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = Session()
    again = Retry(total=retries, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.mount("http://", HTTPAdapter(max_retries=again))
    if bundle := os.environ.get("SSL_CERT_FILE"):  # uv reads it, requests does not
        session.verify = bundle
    return session


def without_secrets(address: str) -> str:
    """Return the address with *** for each value of its query that may be a secret.

    The query of a presigned address gives access to the file.
    """
    parts = urlsplit(address)
    return parts._replace(query="&".join(map(_hidden, parts.query.split("&")))).geturl()


def _hidden(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        name, value = "", parameter
    return f"{name}{equals}***" if len(value) > _LONGEST_SHOWN else parameter


def index_login(place: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return uv's user and password for the index with the file ``place``.

    They are only for the index's own server. None if uv has none; requests then reads the netrc.
    """
    for entry in " ".join(environment.get(name, "") for name in _INDEXES).split():
        name, address = "", entry
        if named := re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", entry):
            name, address = named[1], named[2]
        if _server(address) != _server(place):
            continue
        parts = urlsplit(address)
        if parts.username is not None:
            return unquote(parts.username), unquote(parts.password or "")
        prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}"
        user, password = (environment.get(f"{prefix}_{one}") for one in ("USERNAME", "PASSWORD"))
        if name and (user or password):
            return user or "", password or ""
    return None


def _server(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
