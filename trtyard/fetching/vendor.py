"""Files of a vendor's own package index: their addresses, and a check for login pages."""

from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.fetching.http import http_session
from trtyard.fetching.mirrors import Mirrors, VendorHost
from trtyard.fetching.package_index import PublishedFile, files_on
from trtyard.system.terminal import say

INDEX_HOST: VendorHost = "pypi.nvidia.com"
_PAGE = (b"<!doctype html", b"<html")
_START = 1024  # bytes to search for the start of a page


def vendor_address(package: str, filename: str, mirrors: Mirrors) -> str:
    """Return a file's address on the vendor's index, or on the mirror of it (``[vendor]``)."""
    return f"{_index(mirrors)}/{package}/{filename}"


def vendor_files(package: str, mirrors: Mirrors) -> list[PublishedFile]:
    """Return the package's files on the vendor's index; print a notice if it does not answer."""
    try:
        with http_session(retries=0) as session:
            found = files_on(session, _index(mirrors), package)
    except EnvironmentLacksError as error:
        say(f"{package}: the vendor's index is skipped: {error.message}")
        return []
    return [one for one in found or () if one.sha256 and not one.is_yanked]


def _index(mirrors: Mirrors) -> str:
    return mirrors.vendor.get(INDEX_HOST, f"https://{INDEX_HOST}")


def is_a_page(file: Path) -> bool:
    """Tell by its content whether a file is a web page, such as a login page."""
    with file.open("rb") as stream:
        return stream.read(_START).lstrip().lower().startswith(_PAGE)
