"""What a conversion came to: report.json, report.html, junit.xml, overlay.png, a console table."""

from trtyard.pipeline.report.console import console_table
from trtyard.pipeline.report.overlay import draw_overlay
from trtyard.pipeline.report.schema import (
    STAGES,
    EngineFacts,
    Image,
    Inputs,
    Proposals,
    Report,
    TensorInput,
    Weights,
)
from trtyard.pipeline.report.verdict import verdict
from trtyard.pipeline.report.writer import write_report
from trtyard.pipeline.stages import Stage

__all__ = [
    "STAGES",
    "EngineFacts",
    "Image",
    "Inputs",
    "Proposals",
    "Report",
    "Stage",
    "TensorInput",
    "Weights",
    "console_table",
    "draw_overlay",
    "verdict",
    "write_report",
]
