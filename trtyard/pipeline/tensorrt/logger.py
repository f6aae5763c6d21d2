"""TensorRT's log, kept instead of printed."""

from typing import Any, List

from trtyard.pipeline.tensorrt.api import trt

# TensorRT's plugins keep the address of the first logger that they were given, and write to it
# after its builder is gone: a logger that is collected meanwhile ends the process.
_NEVER_COLLECTED: List["KeptLog"] = []


class KeptLog(trt.ILogger):
    """Keeps warnings and errors in the order they came."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: List[str] = []
        self.warnings: List[str] = []
        _NEVER_COLLECTED.append(self)

    def log(self, severity: Any, message: str) -> None:
        """Take one message from TensorRT."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.errors.append(message.strip())
        elif severity == trt.ILogger.Severity.WARNING:
            self.warnings.append(message.strip())

    def last_errors(self, count: int = 5) -> str:
        """Return the newest errors, one a line; a plain sentence when there are none."""
        return "\n".join(self.errors[-count:]) or "TensorRT gave no reason"
