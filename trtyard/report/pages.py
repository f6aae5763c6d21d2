"""The pages of a report, made from its report.json and written whole or not at all."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from trtyard.core.errors import UsageError
from trtyard.core.files import write_text
from trtyard.core.report import HTML_FILE, JSON_FILE, JUNIT_FILE, Report
from trtyard.known_failures.advice import advised
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.report.index import Entry, index_page
from trtyard.report.junit import junit_text
from trtyard.report.page import page
from trtyard.report.reading import read_report
from trtyard.system.terminal import show

INDEX_FILE = "index.html"


def write_pages(report: Report, folder: Path) -> None:
    """Write report.html and junit.xml into ``folder``, which holds the report's own files.

    ``report.overlay`` names a picture in ``folder``, which is put inside the page.
    """
    picture = None if report.overlay is None else _data_uri(folder / report.overlay)
    html, xml = page(report, picture), junit_text(report)
    write_text(folder / HTML_FILE, html)
    write_text(folder / JUNIT_FILE, xml)


def make_pages(paths: Sequence[str], out: str = "") -> None:
    """Write the pages of every report below ``paths``; of several also an index page.

    Args:
        paths: folders, searched at any depth for report.json.
        out: where the index page goes (default: index.html in the folder that holds them all).

    Raises:
        UsageError: no report is found, or one of them cannot be read. Nothing is written then.
    """
    if not paths:
        raise UsageError("report needs a folder", "./run report out")
    files = [file for path in paths for file in _reports_in(Path(path))]
    folders = list(dict.fromkeys(file.parent.absolute() for file in files))
    rows = matrix_toolchains()
    found = [(folder, advised(read_report(folder), rows)) for folder in folders]
    if not found:
        raise UsageError(f"no {JSON_FILE} in {', '.join(paths)}", "./run convert writes one")
    for folder, report in found:
        write_pages(report, folder)
        show(str(folder / HTML_FILE))
    if len(found) > 1 or out:
        index = Path(out or Path(os.path.commonpath(folders), INDEX_FILE)).absolute()
        entries = [
            Entry(report, Path(os.path.relpath(folder / HTML_FILE, index.parent)).as_posix())
            for folder, report in found
        ]
        write_text(index, index_page(entries))
        show(str(index))


def _reports_in(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path} does not exist", "give a folder that ./run convert has written")
    return sorted(path.rglob(JSON_FILE)) if path.is_dir() else [path]


def _data_uri(file: Path) -> str | None:
    """Return the picture for a page; None if it is gone, as the facts do not depend on it."""
    if not file.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
