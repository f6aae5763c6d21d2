"""What trtyard says: progress on stderr, results on stdout."""

import sys


def say(text: str) -> None:
    """Tell the user what is being done."""
    sys.stderr.write(f"trtyard: {text}\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")
