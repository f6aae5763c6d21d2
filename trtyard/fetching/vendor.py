"""Files of a vendor's own package index: where each is, and what may come in its place."""

from pathlib import Path

from trtyard.fetching.mirrors import VENDOR_HOSTS, Mirrors

(INDEX_HOST,) = VENDOR_HOSTS
_PAGE = (b"<!doctype html", b"<html")
_START = 1024  # bytes in which a page says that it is one


def vendor_address(package: str, filename: str, mirrors: Mirrors) -> str:
    """Return a file's address on the vendor's index, or on the mirror of it (``[vendor]``)."""
    index = mirrors.vendor.get(INDEX_HOST, f"https://{INDEX_HOST}")
    return f"{index}/{package}/{filename}"


def is_a_page(file: Path) -> bool:
    """Tell whether a file is a web page, such as a login's, whatever its name says."""
    with file.open("rb") as stream:
        return stream.read(_START).lstrip().lower().startswith(_PAGE)
