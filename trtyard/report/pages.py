"""Write the pages of reports, each file completely or not at all."""

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
from trtyard.report.run_script import write_script
from trtyard.system.terminal import show

INDEX_FILE = "index.html"


def write_pages(report: Report, folder: Path) -> None:
    """Write report.html, junit.xml and run.py into ``folder``, the folder of report.json.

    The picture ``report.overlay`` in ``folder`` is embedded in the page.
    """
    picture = None if report.overlay is None else _data_uri(folder / report.overlay)
    html, xml = page(report, picture), junit_text(report)
    write_text(folder / HTML_FILE, html)
    write_text(folder / JUNIT_FILE, xml)
    write_script(report, folder)


def make_pages(paths: Sequence[str], out: str = "") -> None:
    """Write the pages of every report in ``paths``, and an index page if there are several.

    Args:
        paths: folders, searched recursively for report.json.
        out: the index page (default: index.html in the reports' common folder).

    Raises:
        UsageError: no report is found, or one cannot be read. Then nothing is written.
    """
    if not paths:
        raise UsageError("report needs a folder", "for example: ./run report out")
    files = [file for path in paths for file in _reports_in(Path(path))]
    folders = list(dict.fromkeys(file.parent.absolute() for file in files))
    rows = matrix_toolchains()
    found = [(folder, advised(read_report(folder), rows)) for folder in folders]
    if not found:
        raise UsageError(f"no {JSON_FILE} in {', '.join(paths)}", "run ./run convert first")
    for folder, report in found:
        write_pages(report, folder)
        show(str(folder / HTML_FILE))
    if len(found) > 1 or out:
        index = Path(out or Path(os.path.commonpath(folders), INDEX_FILE)).absolute()
        write_text(index, index_page([_entry(*one, index.parent) for one in found]))
        show(str(index))


def write_index(folders: Sequence[Path], index: Path) -> None:
    """Write the index page of the reports in ``folders``, whose pages are already written."""
    rows = matrix_toolchains()
    found = [(folder, advised(read_report(folder), rows)) for folder in folders]
    write_text(index, index_page([_entry(*one, index.parent) for one in found]))


def _entry(folder: Path, report: Report, start: Path) -> Entry:
    return Entry(report, Path(os.path.relpath(folder / HTML_FILE, start)).as_posix())


def _reports_in(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path} does not exist", "give an output folder of ./run convert")
    return sorted(path.rglob(JSON_FILE)) if path.is_dir() else [path]


def _data_uri(file: Path) -> str | None:
    """Return the picture as a data URI; None if the file is missing: the page works without it."""
    if not file.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
