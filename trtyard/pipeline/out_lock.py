"""The lock on the output folder, which the host side takes and the pipeline holds on to.

Where the host side is killed, this process still holds the folder. What the model's code starts
must not: it may outlive the conversion.
"""

import contextlib
import os

OUT_LOCK = "TRTYARD_OUT_LOCK"  # the descriptor's number, in the environment


def keep_to_this_process() -> None:
    """Have no child of this process inherit the descriptor that the host side gave it."""
    number = os.environ.pop(OUT_LOCK, "")
    if not number.isdigit():
        return
    descriptor = int(number)
    with contextlib.suppress(OSError):
        os.set_inheritable(descriptor, False)
        if hasattr(os, "register_at_fork"):  # from Python 3.7 on
            os.register_at_fork(after_in_child=lambda: _close(descriptor))


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
