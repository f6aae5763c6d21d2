"""Interruptions that wait until what was just begun has a name, by which it can be ended."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# The first to be held back is the last to come through again.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP that come in the block come at its end.

    Their handlers raise between any two steps, so also when a child or a container is there and
    nobody knows of it yet. What is ignored stays so, for a child too; handlers run in the main
    thread alone, so elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with contextlib.ExitStack() as handlers:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers.callback(signal.signal, number, handler)
                signal.signal(number, note)
        yield
    for one in came:
        signal.raise_signal(one)
