"""What ./run convert shows at its end."""

import sys
from pathlib import Path

from trtyard.core.errors import ConversionError
from trtyard.core.report import FAILED, precision_stages
from trtyard.known_failures.advice import advised
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.report.console import console_table, notes_in_words
from trtyard.report.pages import write_pages
from trtyard.report.reading import read_report
from trtyard.system.terminal import show


def show_result(folder: Path) -> None:
    """Make the pages of the report in ``folder`` and print its table, notes and failures."""
    report = advised(read_report(folder), matrix_toolchains())
    write_pages(report, folder)
    show(f"\n{console_table(report)}")
    if report.notes:
        show(f"\n{notes_in_words(report)}")
    sys.stdout.flush()
    for stage in (*report.stages, *precision_stages(report)):
        if stage.status == FAILED:  # the table has room for the first words only
            sys.stderr.write(f"\ntrtyard: {ConversionError(stage.reason or '', stage.hint)}\n")
