"""What holds for all tests."""

import signal

import pytest


def pytest_configure():
    """Let SIGINT interrupt: a shell has it ignored in what it starts in the background.

    The programs that tests interrupt would inherit that, and go on for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def plugin_cache(tmp_path_factory):
    """Return the folder where the first test that needs the plugins compiles them."""
    return tmp_path_factory.mktemp("plugins")
