"""The three files of a report, each written whole or not at all."""

import base64
import io
from pathlib import Path
from typing import Optional

from PIL import Image

from trtyard.core.files import write_json, write_text
from trtyard.pipeline.report.json_file import report_value
from trtyard.pipeline.report.junit import junit_text
from trtyard.pipeline.report.page import page
from trtyard.pipeline.report.schema import (
    HTML_FILE,
    JSON_FILE,
    JUNIT_FILE,
    Report,
    check_report,
)

_JPEG_QUALITY = 88  # the picture inside the page; a fifth of the PNG's size, lines still sharp


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, report.html and junit.xml into ``folder``.

    ``report.overlay`` names a picture in ``folder``, which is put inside the page.

    Raises:
        ValueError: the report contradicts itself (see ``check_report``); nothing is written.
    """
    check_report(report)
    picture = None if report.overlay is None else _data_uri(folder / report.overlay)
    value, html, xml = report_value(report), page(report, picture), junit_text(report)
    write_json(folder / JSON_FILE, value)
    write_text(folder / HTML_FILE, html)
    write_text(folder / JUNIT_FILE, xml)


def _data_uri(file: Path) -> Optional[str]:
    buffer = io.BytesIO()
    with Image.open(str(file)) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
