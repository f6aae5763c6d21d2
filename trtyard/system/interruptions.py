"""Delays signals while a child process or container is created, so that it can be cleaned up."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# The original handlers are restored in reverse order.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP until the end of the block.

    Their handlers can raise between any two steps, also after a child or container was created but
    before its name is stored; it would then keep running. Ignored signals stay ignored, in children
    too. Python runs handlers in the main thread only, so other threads have nothing to delay.
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
