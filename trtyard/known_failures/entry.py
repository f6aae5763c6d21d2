"""What is known about one failure."""

from typing import NamedTuple


class KnownFailure(NamedTuple):
    """One failure that others met before: how it shows, why it comes, what to do.

    ``affected`` holds ranges of toolchains (core/toolchains.py) in which it comes; a row
    outside them takes the model as it is. Without ranges the machine or the command is at fault.
    """

    name: str
    cause: str
    hint: str
    sources: tuple[str, ...]  # threads and pages, or "measured: " and with what
    affected: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()  # regular expressions; one of them found in a log is enough
    symptom: str = ""  # what one sees where no error is raised
    op: str = ""  # "standard" or "custom": only where the log names an op of that kind
    general: bool = False  # says little; anything more specific goes before it
    warning: bool = False  # on its own it stops nothing
