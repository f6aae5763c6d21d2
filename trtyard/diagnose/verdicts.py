"""What a check found: fine, a problem, or not to be told from here; and what fixes it."""

import textwrap
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "problem", "can't tell"]

_STATE_WIDTH, _SUBJECT_WIDTH, _WIDTH = 12, 14, 100


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One line of ``doctor``."""

    subject: str
    state: State
    fact: str
    hint: str = ""

    def in_words(self) -> str:
        """Return state, subject and fact in one paragraph, and the hint below."""
        column = " " * (_STATE_WIDTH + _SUBJECT_WIDTH)
        head = f"{self.state:<{_STATE_WIDTH}}{self.subject:<{_SUBJECT_WIDTH - 1}} "
        lines = textwrap.wrap(
            self.fact,
            width=_WIDTH,
            initial_indent=head,
            subsequent_indent=column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in self.hint.splitlines():
            lines += textwrap.wrap(
                line,
                width=_WIDTH,
                initial_indent=column,
                subsequent_indent=f"{column}  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)


def ok(subject: str, fact: str) -> Verdict:
    """Return that all is well with ``subject``."""
    return Verdict(subject=subject, state="ok", fact=fact)


def problem(subject: str, fact: str, hint: str | None = None) -> Verdict:
    """Return that ``subject`` stands in the way, and what to type."""
    return Verdict(subject=subject, state="problem", fact=fact, hint=hint or "")


def unknown(subject: str, fact: str, hint: str = "") -> Verdict:
    """Return that ``subject`` cannot be judged from here."""
    return Verdict(subject=subject, state="can't tell", fact=fact, hint=hint)
