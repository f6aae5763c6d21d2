"""HTTP as every part of the host side speaks it."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Session


def http_session(*, retries: int = 5) -> "Session":
    """Return an HTTP session that tries again when the server is busy or the line is bad."""
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = Session()
    again = Retry(total=retries, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.mount("http://", HTTPAdapter(max_retries=again))
    if bundle := os.environ.get("SSL_CERT_FILE"):  # uv's setting, which requests does not know
        session.verify = bundle
    return session
