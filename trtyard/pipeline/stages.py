"""The stages of a conversion: what ran, how long, and why something did not."""

import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence, TypeVar

from trtyard.core.errors import ConversionError, EnvironmentLacksError, TrtyardError
from trtyard.core.report import FAILED, NOT_RUN, PASSED, Stage

_MOST_CHARACTERS = 1 << 16  # of a log that is kept

T = TypeVar("T")


class NotRunError(Exception):
    """Raised by a stage that has no work or cannot work here; its words are the reason."""


class StageBook:
    """Runs stages one after the other and keeps their results.

    ``earlier`` has the seconds that stages took in an earlier run, to announce with them.
    """

    def __init__(
        self, announce: Callable[[str], None], earlier: Optional[Mapping[str, float]] = None
    ) -> None:
        self._announce = announce
        self._earlier = {} if earlier is None else earlier
        self._stages: Dict[str, Stage] = {}
        self._notes: Dict[str, str] = {}

    @property
    def stages(self) -> List[Stage]:
        """Every stage so far, in the order they came."""
        return list(self._stages.values())

    def passed(self, name: str) -> bool:
        """Tell whether that stage has run and passed."""
        stage = self._stages.get(name)
        return stage is not None and stage.status == PASSED

    def remark(self, name: str, note: str) -> None:
        """Say something about the stage ``name`` while it runs."""
        self._notes[name] = note

    def leave_out(self, name: str, reason: str) -> None:
        """Record a stage as not run, because it was not asked for."""
        self._stages[name] = Stage(name, NOT_RUN, reason=reason)

    def attempt(
        self, name: str, doing: str, action: Callable[[], T], needs: Sequence[str] = ()
    ) -> Optional[T]:
        """Run ``action`` as the stage ``name`` and return its result; None if it did not pass.

        A ConversionError makes the stage failed. A NotRunError, something that the machine lacks,
        or a stage in ``needs`` that did not pass makes it not run. Anything else is raised.
        """
        missing = [need for need in needs if not self.passed(need)]
        if missing:
            self._stages[name] = Stage(
                name, NOT_RUN, reason=f"needs the stage {missing[0]}, which did not pass"
            )
            return None
        before = self._earlier.get(name)
        took = "" if before is None else f" (last time: {before:.1f} s)"
        self._announce(f"{name}: {doing}{took}")
        start = time.perf_counter()
        result = None
        try:
            result = action()
            stage = Stage(name, PASSED, time.perf_counter() - start)
        except ConversionError as error:
            seconds = time.perf_counter() - start
            stage = Stage(name, FAILED, seconds, error.message, error.hint, log=_end_of_log(error))
        except EnvironmentLacksError as error:
            stage = Stage(
                name, NOT_RUN, reason=error.message, hint=error.hint, log=_end_of_log(error)
            )
        except NotRunError as error:
            stage = Stage(name, NOT_RUN, reason=str(error))
        self._stages[name] = stage._replace(note=self._notes.get(name))
        return result


def _end_of_log(error: TrtyardError) -> Optional[str]:
    return error.log[-_MOST_CHARACTERS:] if error.log else None
