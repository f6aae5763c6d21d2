"""Time GPU work: medians over rotated buffers, in CUDA graphs and as plain launches."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from trtyard.pipeline.latency.clocks import CUDA, captured, milliseconds

REPEATS = 25
WARM_UP = 3
L2_MULTIPLE = 4  # total size of a round's buffers, in sizes of the L2 cache
MOST_SETS = 64  # more only take longer to prepare

Call = Callable[[], object]


class Time(NamedTuple):
    """Microseconds per call; ``low`` and ``high`` are the first and last decile of the repeats."""

    median: float
    low: float
    high: float


def buffer_sets(bytes_per_set: int) -> int:
    """Return how many sets of buffers a round needs so that none stays in the L2 cache."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, min(MOST_SETS, -(-L2_MULTIPLE * cache // max(1, bytes_per_set))))


def _time(round_of_calls: Call, calls: int, repeats: int) -> Time:
    for _ in range(WARM_UP):
        round_of_calls()
    torch.cuda.synchronize()
    times = [milliseconds(round_of_calls, CUDA) * 1e3 / calls for _ in range(repeats)]
    times.sort()
    tenth = len(times) // 10
    return Time(statistics.median(times), times[tenth], times[-1 - tenth])


def plain(calls: Sequence[Call], repeats: int = REPEATS) -> Time:
    """Return the time per call of ``calls``, launched one after another from Python."""

    def one_round() -> None:
        for call in calls:
            call()

    return _time(one_round, len(calls), repeats)


def graphed(calls: Sequence[Call], repeats: int = REPEATS) -> Time:
    """Return the time per call of ``calls``, all in one CUDA graph."""

    def one_round() -> None:
        for call in calls:
            call()

    return _time(captured(one_round), len(calls), repeats)


def copy_bandwidth(size: int = 1 << 30) -> float:
    """Return the bytes read and written per second by a device-to-device copy of ``size`` bytes."""
    source = torch.empty(size // 4, device="cuda").normal_()
    target = torch.empty_like(source)
    time = plain([lambda: target.copy_(source)])
    return 2 * size / (time.median * 1e-6)


def fill_bandwidth(size: int = 1 << 30) -> float:
    """Return the bytes written per second by filling ``size`` bytes."""
    target = torch.empty(size // 4, device="cuda")
    time = plain([target.zero_])
    return size / (time.median * 1e-6)
