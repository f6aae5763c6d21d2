"""What is known about one failure."""

from typing import NamedTuple


class KnownFailure(NamedTuple):
    """One known failure: its patterns in a log, its cause and its fix.

    ``affected`` holds the ranges of toolchains (core/toolchains.py) that have the failure. A row
    outside them supports the model unchanged. Empty: the machine or the command is at fault.
    """

    name: str
    cause: str
    hint: str
    sources: tuple[str, ...]  # threads and pages, or "measured: " and with what
    affected: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()  # regular expressions; one match in a log is enough
    symptom: str = ""  # what users see if there is no error
    op: str = ""  # "standard" or "custom": applies only if the log names an op of that kind
    general: bool = False  # less informative; more specific failures come before it
    warning: bool = False  # does not stop the conversion by itself
