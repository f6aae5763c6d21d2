"""Ctrl-C in the pipeline's process.

TensorRT calls Python from C++. An exception that a signal raises there is lost, or crashes the
process, so ``held_back`` raises it when TensorRT has returned.
"""

import contextlib
import signal
from typing import Iterator


class _State:
    held_back = False
    asked = False


def interrupt(_number: int, _frame: object) -> None:
    """Handle SIGINT: raise KeyboardInterrupt once, so that a second one cannot stop the cleanup."""
    if _State.held_back:
        _State.asked = True
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the block, if ``interrupt`` handles it."""
    _State.held_back = True
    try:
        yield
    finally:
        _State.held_back = False
        if _State.asked:
            _State.asked = False
            interrupt(signal.SIGINT, None)
