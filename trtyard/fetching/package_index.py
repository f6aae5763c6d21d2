"""Lists a project's releases on the package index, with their Pythons.

uv resolves one release but cannot list them, so this reads the index (the simple API, PEP 503 and
691), with uv's settings for its address and login.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from trtyard.core.errors import EnvironmentLacksError
from trtyard.fetching.http import http_session, index_login
from trtyard.system.processes import Word, output_of
from trtyard.system.uv import uv

if TYPE_CHECKING:
    from requests import Session

_DEFAULT_LINE = re.compile(r"^--index-url (\S+)$", re.MULTILINE)
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_ANSWER_SECONDS = 60
_RETRIES = 2
_PYTHON = re.compile(r"cp3(\d+)")
_PLATFORM = re.compile(r"any|(many)?linux\w*_x86_64")


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """One release of a project that has a wheel for Linux x86_64."""

    version: Version
    pythons: tuple[str, ...]  # CPythons with a wheel of their own; empty: one wheel fits all


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file as an index lists it."""

    name: str
    sha256: str  # "" if the index does not list it
    is_yanked: bool


def published(*projects: str) -> dict[str, tuple[PublishedRelease, ...]]:
    """Return each project's releases, the newest first; none for a project that no index has.

    Like uv, this uses the first index that has the project, extra indexes before the default one.
    Raises ``EnvironmentLacksError`` if an index does not answer.
    """
    with http_session(retries=_RETRIES) as session:
        return {one: _releases(_files(session, one)) for one in projects}


def _indexes(environment: Mapping[str, str]) -> list[str]:
    extra = f"{environment.get('UV_INDEX', '')} {environment.get('UV_EXTRA_INDEX_URL', '')}".split()
    named = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    default = [named] if named else _default_index()
    addresses = (re.sub(r"^[A-Za-z0-9._-]+=(?=\w+:)", "", one) for one in (*extra, *default))
    return [one.rstrip("/") for one in addresses]


def _default_index() -> list[str]:
    """Return the address of uv's default index.

    uv runs in the folder for temporary files: the settings of a project do not apply to the lock.
    """
    command: list[Word] = [uv(), "pip", "compile", "--quiet", "--no-header", "--emit-index-url"]
    return _DEFAULT_LINE.findall(output_of([*command, os.devnull], cwd=Path(tempfile.gettempdir())))


def _files(session: "Session", project: str) -> list[str]:
    """Return the names of the project's files, without yanked ones."""
    for index in _indexes(os.environ):
        found = files_on(session, index, project)
        if found is not None:
            return [one.name for one in found if not one.is_yanked]
    return []


def files_on(session: "Session", index: str, project: str) -> list[PublishedFile] | None:
    """Return the project's files on that index; None if the index does not have the project.

    Raises ``EnvironmentLacksError`` if it does not answer, or not with the simple API.
    """
    from requests import RequestException

    place = f"{index}/{project}/"
    host = urlsplit(index).hostname
    try:
        answer = session.get(
            place,
            headers={"Accept": _ACCEPT},
            timeout=_ANSWER_SECONDS,
            auth=index_login(place, os.environ),
        )
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
    except RequestException as error:
        status = "" if error.response is None else str(error.response.status_code)
        raise EnvironmentLacksError(
            f"the package index {host} does not answer: {status or type(error).__name__}",
            "check the network, a proxy (HTTPS_PROXY) or a mirror (UV_DEFAULT_INDEX), then run the"
            " same command again",
        ) from None
    try:
        if _JSON in answer.headers.get("Content-Type", ""):
            return [_file_of(one) for one in json.loads(answer.text)["files"]]
        page = _Links()
        page.feed(answer.text)
        if not any(one.name.endswith((".whl", ".tar.gz", ".zip")) for one in page.found):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise EnvironmentLacksError(
            f"the package index {host} does not list the files of {project}: its answer is not the"
            " simple API, perhaps a login page",
            "set UV_DEFAULT_INDEX to an index that supports the simple API",
        ) from None
    return page.found


def _file_of(entry: Mapping[str, Any]) -> PublishedFile:
    return PublishedFile(
        name=str(entry["filename"]),
        sha256=str(entry.get("hashes", {}).get("sha256", "")),
        is_yanked=bool(entry.get("yanked")),
    )


class _Links(HTMLParser):
    """Collects the files that an index's page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[PublishedFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            address = urlsplit(given.get("href") or "")
            self.found.append(
                PublishedFile(
                    name=unquote(address.path.rpartition("/")[2]),
                    sha256="".join(re.findall(r"sha256=([0-9a-f]{64})", address.fragment)),
                    is_yanked="data-yanked" in given,
                )
            )


def _releases(filenames: Iterable[str]) -> tuple[PublishedRelease, ...]:
    found: dict[Version, set[str]] = {}
    for filename in filenames:
        try:
            _, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue  # a source distribution, or a stray file
        for tag in tags:
            if not _PLATFORM.fullmatch(tag.platform):
                continue
            python = _PYTHON.fullmatch(tag.interpreter) if tag.abi != "abi3" else None
            found.setdefault(version, set()).update({f"3.{python[1]}"} if python else ())
    return tuple(
        PublishedRelease(version=version, pythons=tuple(sorted(found[version], key=_minor)))
        for version in sorted(found, reverse=True)
        if not version.is_prerelease
    )


def _minor(python: str) -> int:
    return int(python.partition(".")[2])
