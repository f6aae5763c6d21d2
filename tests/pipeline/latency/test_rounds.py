"""Runtimes that take turns: how often each runs, and what becomes of an error."""

import contextlib
import itertools
import math
import time

import pytest

from trtyard.core.errors import ConversionError
from trtyard.pipeline.latency.clocks import milliseconds
from trtyard.pipeline.latency.rounds import ROUNDS, Contender, Limits, measure
from trtyard.pipeline.stages import NotRunError


def contender(run, name="torch", closed=None):
    @contextlib.contextmanager
    def start():
        yield lambda: milliseconds(run, "cpu")
        if closed is not None:
            closed.append(name)

    return Contender(name, "fp32", "cpu", start)


def failing_at(number, error):
    calls = []

    def run():
        calls.append(number)
        if len(calls) == number:
            raise error

    return run


def test_every_runtime_is_timed_as_often_as_asked():
    calls = []
    (timing,) = measure([contender(lambda: calls.append(1))], 4, Limits(runs=200))
    assert timing.runs == 200
    assert len(calls) >= timing.runs + ROUNDS + 3  # one a block, and the warm-up, are not counted
    assert 0 < timing.median_ms <= timing.p99_ms <= timing.longest_ms
    assert timing.reason is None
    assert timing.batch == 4


def test_slow_run_is_seen_as_slow_as_it_is():
    (timing,) = measure([contender(lambda: time.sleep(0.02))], 3, Limits(runs=12))
    assert timing.median_ms >= 20
    assert timing.longest_ms >= timing.median_ms
    assert timing.items_per_second <= 3 / 0.02
    assert timing.ready_seconds >= 0.02


def test_p99_needs_a_hundred_runs():
    counts = {runs: measure([contender(int)], 1, Limits(runs))[0].p99_ms for runs in (99, 100)}
    assert counts[99] is None
    assert counts[100] is not None


def test_p99_is_the_time_that_99_percent_stay_below():
    times = iter([0.0] * 10_000)
    values = [float(number) for number in range(1, 201)]

    @contextlib.contextmanager
    def start():
        yield lambda: next(times)

    given = Contender("torch", "fp32", "cpu", start)
    times = iter(_with_uncounted(values))
    (timing,) = measure([given], 1, Limits(runs=200))
    assert (timing.median_ms, timing.p99_ms, timing.longest_ms) == (100.5, 198.0, 200.0)
    assert math.isclose(timing.items_per_second, 200 * 1e3 / sum(values))


def _with_uncounted(values):
    """Return the values with a time that must not count before each block.

    The warm-up takes as many runs as it has time for, so time goes by in the first ones only.
    """
    yield 1e9
    time.sleep(0.3)
    yield from (1e9, 1e9)
    for number in range(ROUNDS):
        yield 1e9
        yield from values[number * 20 : number * 20 + 20]


def test_slow_runtime_has_one_run_a_round_in_its_seconds():
    limits = Limits(runs=1000, seconds=0.2)
    (timing,) = measure([contender(lambda: time.sleep(0.03))], 1, limits)
    assert ROUNDS <= timing.runs < 1000


def test_runtimes_take_turns():
    order = []
    first, second = (contender(lambda name=name: order.append(name), name) for name in "ab")
    measure([first, second], 1, Limits(runs=20))
    blocks = [name for name, _ in itertools.groupby(order)]
    assert blocks == ["a", "b"] * (ROUNDS + 1)  # the warm-up is the first


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConversionError("the engine failed", "hint"), "the engine failed"),
        (NotRunError("no compiler"), "no compiler"),
        (RuntimeError("can't allocate\n memory"), "RuntimeError: can't allocate memory"),
        (MemoryError("too large"), "MemoryError: too large"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("x" * 1000), "..."),
    ],
)
def test_runtime_that_cannot_start_leaves_the_others_alone(error, said):
    broken = contender(failing_at(1, error), "torch-compiled")
    found = measure([broken, contender(int)], 1, Limits(runs=10))
    assert said in found[0].reason
    assert len(found[0].reason) <= 300
    assert (found[0].runs, found[0].median_ms, found[0].p99_ms) == (0, None, None)
    assert found[0].items_per_second is None
    assert found[1].runs == 10


def test_runtime_that_fails_later_has_no_times():
    calls = []

    def run():
        if len(calls) > 10:  # not in its warm-up, which is before the other's
            raise ValueError("worn out")

    other = contender(lambda: calls.append(1) or time.sleep(0.01))
    found = measure([contender(run), other], 1, Limits(runs=20))
    assert found[0].reason.startswith("failed in run ")
    assert found[0].reason.endswith(": ValueError: worn out")
    assert found[0].runs == 0
    assert found[1].runs == 20


def test_interruption_is_passed_on_and_everything_is_closed():
    closed = []

    def interrupted():
        raise KeyboardInterrupt

    first = contender(int, "onnxruntime")

    @contextlib.contextmanager
    def start():
        with contextlib.ExitStack() as stack:
            stack.callback(closed.append, "torch")
            yield interrupted

    with pytest.raises(KeyboardInterrupt):
        measure([first, Contender("torch", "fp32", "cpu", start)], 1, Limits(runs=10))
    assert closed == ["torch"]
