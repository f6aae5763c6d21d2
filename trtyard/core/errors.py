"""The error classes, each with its exit code.

The message says what happened and where (the user's file and line if there is one); ``hint`` is the
next command to type; ``log`` is the output of the failing library or compiler, in which the host
looks up the cause. Used on the host and in the row's environment.
"""

from typing import Optional


class TrtyardError(Exception):
    """Base of every error that trtyard raises on purpose."""

    exit_code = 4

    def __init__(self, message: str, hint: Optional[str] = None, log: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class ParityError(TrtyardError):
    """Two runtimes disagree beyond the stated tolerance."""

    exit_code = 1


class UsageError(TrtyardError):
    """The command line has an invalid value or combination of options."""

    exit_code = 2


class EnvironmentLacksError(TrtyardError):
    """The machine lacks something: a program, a package, a right, disk, network."""

    exit_code = 3


class ConversionError(TrtyardError):
    """Export, parser or builder refused the model."""

    exit_code = 4


class IntegrityError(TrtyardError):
    """A lock, hash or digest does not match."""

    exit_code = 5


INTERRUPTED_EXIT_CODE = 130
BUG_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
