"""What holds for all tests."""

import signal


def pytest_configure():
    """Let SIGINT interrupt: a shell has it ignored in what it starts in the background.

    The programs that tests interrupt would inherit that, and go on for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
