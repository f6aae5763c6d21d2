"""Run several runtimes in turns and take the times of each.

Each runtime gets a block of runs in each round, so that a change in the load of the machine is in
the times of all of them. The first run of a block is not counted: it finds the caches filled by
the runtime before, whose threads may still be spinning.
"""

import contextlib
import gc
import math
import time
from typing import Callable, ContextManager, List, NamedTuple, Optional, Sequence

import numpy as np

from trtyard.core.errors import TrtyardError
from trtyard.core.report import FEWEST_FOR_P99, Timing
from trtyard.pipeline.stages import NotRunError

ROUNDS = 10
DEFAULT_RUNS, DEFAULT_SECONDS = 200, 20
_WARM_UP_RUNS, _WARM_UP_SECONDS = 3, 0.3  # at least both
_MOST_CHARACTERS = 300  # of an error

OneRun = Callable[[], float]  # returns its milliseconds


class Contender(NamedTuple):
    """A runtime that can be timed."""

    runtime: str  # of TIMED
    precision: str
    device: str
    start: Callable[[], ContextManager[OneRun]]  # loads and compiles; raises if it cannot run
    is_graph: bool = False
    note: Optional[str] = None

    def timing(self, batch: int) -> Timing:
        """Return its record without times."""
        return Timing(
            self.runtime, self.precision, batch, self.device, self.is_graph, note=self.note
        )


class Limits(NamedTuple):
    """When the timing of one runtime at one batch size ends."""

    runs: int = DEFAULT_RUNS
    seconds: float = DEFAULT_SECONDS

    @property
    def rounds(self) -> int:
        """Return the number of rounds."""
        return min(ROUNDS, self.runs)


def measure(contenders: Sequence[Contender], batch: int, limits: Limits) -> List[Timing]:
    """Return the times of each contender, or why it could not run."""
    with contextlib.ExitStack() as stack:
        turns = [_Turns(each, batch, limits) for each in contenders]
        for each in turns:
            each.start(stack)
        for number in range(1, limits.rounds + 1):
            for each in turns:
                each.run_block(number)
        return [each.timing() for each in turns]


class _Turns:
    """One contender's runs in all rounds. After an error it runs no more."""

    def __init__(self, contender: Contender, batch: int, limits: Limits) -> None:
        self._contender = contender
        self._batch = batch
        self._limits = limits
        self._run: Optional[OneRun] = None
        self._times: List[float] = []
        self._ready = 0.0
        self._reason: Optional[str] = None

    def start(self, stack: contextlib.ExitStack) -> None:
        """Load, compile and warm up."""
        began = time.perf_counter()
        try:
            self._run = stack.enter_context(self._contender.start())
            self._run()
            self._ready = time.perf_counter() - began
            began, runs = time.perf_counter(), 1
            while runs < _WARM_UP_RUNS or time.perf_counter() - began < _WARM_UP_SECONDS:
                self._run()
                runs += 1
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            self._stop(error)

    def run_block(self, number: int) -> None:
        """Run the block of round ``number``, which is 1 for the first one."""
        if self._run is None:
            return
        share = number / self._limits.rounds
        target = math.ceil(self._limits.runs * share)
        most = self._limits.seconds * 1e3 * share
        try:
            self._run()
            while True:
                self._times.append(self._run())
                if len(self._times) >= target or sum(self._times) >= most:
                    return
        except (Exception, SystemExit) as error:
            self._stop(error, f"failed in run {len(self._times) + 1}: ")

    def timing(self) -> Timing:
        """Return the contender's record."""
        timing = self._contender.timing(self._batch)
        if self._reason is not None:
            return timing._replace(reason=self._reason)
        times = np.sort(self._times)
        count = len(times)
        p99 = float(times[math.ceil(0.99 * count) - 1]) if count >= FEWEST_FOR_P99 else None
        return timing._replace(
            runs=count,
            median_ms=float(np.median(times)),
            p99_ms=p99,
            longest_ms=float(times[-1]),
            items_per_second=self._batch * count * 1e3 / float(times.sum()),
            ready_seconds=self._ready,
        )

    def _stop(self, error: BaseException, before: str = "") -> None:
        self._run = None
        self._reason = before + reason_of(error)
        gc.collect()  # for the others' memory


def reason_of(error: BaseException) -> str:
    """Return an error in one line."""
    if isinstance(error, TrtyardError):
        text = error.message
    elif isinstance(error, NotRunError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 3] + "..."
