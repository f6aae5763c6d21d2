"""Download a file of weights once, and verify its sha256."""

import errno
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, TrtyardError, UsageError
from trtyard.core.files import PARTIAL_PREFIX, sha256_of, written_whole
from trtyard.core.published_weights import PRETRAINED, digits_in
from trtyard.fetching.http import http_session, index_login, without_secrets
from trtyard.fetching.mirrors import Mirrors
from trtyard.fetching.vendor import is_a_page
from trtyard.system.folders import held_folder, make_own
from trtyard.system.terminal import say
from trtyard.system.uv import YARD

if TYPE_CHECKING:
    from requests import Response

FOLDER = YARD / "weights"
EXAMPLE = "--weights https://example.org/net.pth#sha256=HEX"
_PIECE = 1 << 20
_ANSWER_SECONDS = 60
_RETRIES = 2
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ADDRESS_WITH_HASH = re.compile(r"(?P<address>[^#]+)#sha256=(?P<sha256>[^#]*)(#(?P<key>.+))?")
_ALL_DIGITS = 64
_MOST_OF_NAME = 100  # characters


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights on a server."""

    address: str
    sha256: str  # the first digits, or all of them
    key: str = ""  # of the weights in the file

    @property
    def shown(self) -> str:
        """The address for messages and reports."""
        return without_secrets(self.address)

    @property
    def name(self) -> str:
        """The name of the file in the cache: that on the server, if that has the hash."""
        name = unquote(urlsplit(self.address).path.rpartition("/")[2])
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_MOST_OF_NAME:] or "weights.pth"
        return name if self.sha256 in name else f"{self.sha256}-{name}"


def is_address(text: str) -> bool:
    """Tell whether the value of --weights is an address."""
    return _ADDRESS.match(text) is not None


def read_address(text: str) -> WeightsFile:
    """Return the file for URL#sha256=HEX or URL#sha256=HEX#KEY.

    Raises ``UsageError`` for another form.
    """
    try:
        parts = urlsplit(text.partition("#")[0])
        _ = parts.port
    except ValueError:  # not shown: a part of a password may stand where the port is expected
        raise UsageError("--weights: the address has an invalid host or port", EXAMPLE) from None
    if "@" in parts.netloc:
        raise UsageError(
            "--weights: the address has a user or password",
            "put the login into the netrc, see docs/offline.md",
        )
    shown = without_secrets(text)
    if parts.scheme.lower() not in ("http", "https"):
        raise UsageError(
            f"--weights {shown}: only http:// and https:// addresses are downloaded",
            "give a file on this machine by its path: --weights FILE",
        )
    if not parts.hostname:
        raise UsageError(f"--weights {shown}: the address has no host", EXAMPLE)
    found = _ADDRESS_WITH_HASH.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--weights {shown}: the sha256 of the file is missing",
            f"{EXAMPLE}, with the 64 digits that sha256sum FILE prints, or that the project "
            "publishes",
        )
    sha256 = found["sha256"].lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_ALL_DIGITS}}}", sha256):
        raise UsageError(
            f"--weights {shown}: the sha256 must have {_ALL_DIGITS} hex digits (0-9, a-f), this "
            f"has {len(sha256)} characters",
            "sha256sum FILE prints all of them",
        )
    return WeightsFile(address=found["address"], sha256=sha256, key=found["key"] or "")


def published_file(address: str) -> WeightsFile:
    """Return the file of a published address, whose name has the first digits of its sha256."""
    digits = digits_in(urlsplit(address).path)
    if not digits:
        raise UsageError(
            f"--weights {PRETRAINED}: the name of {address} has no hash",
            f"download it and give it: --weights FILE, or {EXAMPLE}",
        )
    return WeightsFile(address=address, sha256=digits)


def have_weights(file: WeightsFile, mirrors: Mirrors, folder: Path | None = None) -> Path:
    """Return the path of the file in ``folder``, by default ``FOLDER``; download it if missing.

    Raises:
        EnvironmentLacksError: it cannot be downloaded or written. The hint says where to place it.
        IntegrityError: it has another sha256, or the server sends a web page or an empty file.
    """
    if folder is None:
        make_own(YARD)
        folder = FOLDER
    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held_folder(folder, waiting="waiting for another run that downloads weights"):
            for entry in folder.glob(f"{PARTIAL_PREFIX}*"):
                entry.unlink()
            if target.is_file():
                removal = shlex.join(["rm", str(target)])
                _verify(target, file, f"remove it, then run the command again: {removal}")
            else:
                with written_whole(target) as partial:
                    _download(file, mirrors.weights_address(file.address), partial, target)
                    _verify(partial, file, "it was not kept; the server or a mirror has another")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EnvironmentLacksError(
            f"{target} cannot be written: {'the disk is full' if full else error.strerror}",
            "free some space, then run the command again" if full else "check the folder's rights",
        ) from None
    return target


def _download(file: WeightsFile, place: str, partial: Path, target: Path) -> None:
    from requests import RequestException

    host = urlsplit(place).hostname
    say(f"downloading {file.name} from {host}")
    try:
        with (
            http_session(retries=_RETRIES) as session,
            session.get(
                place, stream=True, timeout=_ANSWER_SECONDS, auth=index_login(place, os.environ)
            ) as answer,
        ):
            answer.raise_for_status()
            size = _size_of(answer)
            with partial.open("wb") as stream:
                for piece in answer.iter_content(_PIECE):
                    stream.write(piece)
    except RequestException as error:  # is an OSError too
        raise _not_downloaded(file, host, error.response, type(error).__name__, target) from None
    if size and partial.stat().st_size < size:
        raise _not_downloaded(file, host, None, "the download was interrupted", target)


def _size_of(answer: "Response") -> int:
    """Return the size in bytes that the server announces; 0 if that is not the file's."""
    length = answer.headers.get("Content-Length", "")
    is_plain = "Content-Encoding" not in answer.headers
    return int(length) if is_plain and length.isdecimal() else 0


def _not_downloaded(
    file: WeightsFile, host: str | None, answer: "Response | None", problem: str, target: Path
) -> TrtyardError:
    status = 0 if answer is None else answer.status_code
    said = {
        401: "401, a login is needed",
        403: "403, no access",
        404: "404, no such file",
    }.get(status, str(status) if status else problem)
    login = "set up a login for this server (docs/offline.md), or " if status in (401, 403) else ""
    digits = "sha256" if len(file.sha256) == _ALL_DIGITS else "its sha256 starts with"
    return EnvironmentLacksError(
        f"the weights were not downloaded from {host}: {said}",
        f"{login}download {file.shown} on another machine ({digits} {file.sha256}), and place "
        f"it at {target}",
    )


def _verify(path: Path, file: WeightsFile, hint: str) -> None:
    found = sha256_of(path)
    if found.startswith(file.sha256):
        return
    expected = f"expected sha256 {file.sha256}"
    if len(file.sha256) < _ALL_DIGITS:
        expected += "..."
    if path.stat().st_size == 0:
        raise IntegrityError(f"{file.name}: the file is empty; {expected}", hint)
    if is_a_page(path):
        raise IntegrityError(
            f"{file.name} is a web page and no weights, perhaps a login page; {expected}",
            "set up a login for the server (docs/offline.md), or download the file with a browser: "
            "--weights FILE",
        )
    raise IntegrityError(f"{file.name}: {expected}, found {found}", hint)
