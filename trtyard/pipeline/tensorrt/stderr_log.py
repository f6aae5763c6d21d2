"""The log of TensorRT before 8.0, which only writes to stderr: Python cannot replace its logger."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

from trtyard.pipeline.tensorrt.log import Log

_STDERR = 2  # the descriptor that C++ writes to, independent of sys.stderr

# `[TensorRT] ERROR: words`; its ONNX parser leaves the name out. Further lines belong to the last.
_MESSAGE = re.compile(r"(?:\[TensorRT\] )?(INTERNAL ERROR|INTERNAL_ERROR|ERROR|WARNING|INFO): (.*)")


class StderrLog(Log):
    """Records what is written to stderr inside the block, and passes it on.

    ``tee`` passes it on: unlike a thread of this process it needs no turn of the interpreter, which
    TensorRT may hold for minutes, and it survives if TensorRT ends the process.
    """

    def __enter__(self) -> "StderrLog":
        sys.stderr.flush()
        handle, name = tempfile.mkstemp(prefix="trtyard-log-")
        os.close(handle)
        self._file = Path(name)
        self._stderr: Optional[int] = os.dup(_STDERR)
        self._tee = subprocess.Popen(
            ["tee", name],
            stdin=subprocess.PIPE,
            stdout=self._stderr,
            close_fds=True,
            # An interruption, which comes to the whole group, is for this process to answer.
            start_new_session=True,
        )
        assert self._tee.stdin is not None  # noqa: S101 - it was asked for
        os.dup2(self._tee.stdin.fileno(), _STDERR)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Give stderr back and sort what came into errors and warnings."""
        if self._stderr is None:
            return
        sys.stderr.flush()
        os.dup2(self._stderr, _STDERR)
        os.close(self._stderr)
        self._stderr = None
        self._tee.communicate()  # the last writer is gone: tee ends
        self._sort(self._file.read_text(encoding="utf-8", errors="replace"))
        self._file.unlink()

    def last_errors(self, count: int = 5) -> str:
        """Return the newest errors; what comes after this call is not kept."""
        self.finish()
        return super().last_errors(count)

    def _sort(self, text: str) -> None:
        ignored: List[str] = []
        current = ignored
        for line in text.splitlines():
            message = _MESSAGE.match(line)
            if message is None:
                if current:
                    current[-1] += "\n" + line
                continue
            kind = message.group(1)
            current = {"WARNING": self.warnings, "INFO": ignored}.get(kind, self.errors)
            current.append(message.group(2).strip())
