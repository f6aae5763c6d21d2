"""TensorRT's log, kept instead of printed: its logger is a Python class, from 8.0 on."""

from typing import List

from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.log import Log

# TensorRT's plugins keep the address of the first logger that they were given, and write to it
# after its builder is gone: a logger that is collected meanwhile ends the process.
_NEVER_COLLECTED: List["KeptLog"] = []


class KeptLog(trt.ILogger, Log):
    """Keeps warnings and errors in the order they came."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        Log.__init__(self)
        _NEVER_COLLECTED.append(self)

    def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
        """Take one message from TensorRT."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.errors.append(msg.strip())
        elif severity == trt.ILogger.Severity.WARNING:
            self.warnings.append(msg.strip())
