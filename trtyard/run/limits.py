"""Memory and process limits of a container, and detection of the limit it hit."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.system.uv import GIGA

# Of the memory of Docker's machine; the rest is for other processes.
MEMORY_SHARE = 0.8
PROCESSES = 4096  # enough for a few thread pools on a machine with many cores
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST_MEMORY = 64 << 20  # enough to start Python
# Messages of the C library and Python when no further thread can start.
_NO_PROCESS = re.compile(r"Resource temporarily unavailable|can't start new thread")
_TEMPORARY_FULL = re.compile(r"(?:No space left on device|disk is full).*/tmp\b")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a container."""

    memory: int  # bytes; up to half of it for files in its temporary folder
    processes: int  # threads included

    @property
    def temporary(self) -> int:
        """The size limit of the temporary folder in bytes; its files count as memory."""
        return self.memory // 2

    def settings(self) -> dict[str, Any]:
        """Return docker-py's settings."""
        return {
            "mem_limit": self.memory,
            "memswap_limit": self.memory,  # memory and swap together: no swap
            "pids_limit": self.processes,
        }


def limits_of(engine: Mapping[str, Any], memory: str = "", processes: str = "") -> Limits:
    """Return the given limits; the default depends on the memory in Docker's ``info``."""
    return Limits(
        memory=memory_in_bytes(memory) if memory else int(engine["MemTotal"] * MEMORY_SHARE),
        processes=int(processes) if processes else PROCESSES,
    )


def memory_in_bytes(text: str) -> int:
    """Return the bytes of a size such as ``12g``; ``UsageError`` if it is none."""
    match = re.fullmatch(r"(\d+)([bkmg]?)", text.lower())
    if match is None or int(match[1]) * _UNITS[match[2]] < _LEAST_MEMORY:
        raise UsageError(f"--memory must be a size such as 12g or 800m, at least 64m, not {text!r}")
    return int(match[1]) * _UNITS[match[2]]


class Watch:
    """Passes a container's output on and looks for messages about a limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._processes, self._temporary = limits, False, False

    def lines(self, output: Iterable[str]) -> Iterator[str]:
        """Yield the lines unchanged."""
        for line in output:
            self._processes = self._processes or bool(_NO_PROCESS.search(line))
            self._temporary = self._temporary or bool(_TEMPORARY_FULL.search(line))
            yield line

    def hit(self, state: Mapping[str, Any]) -> EnvironmentLacksError | None:
        """Return an error for the limit that a container hit, or None; ``state`` is Docker's."""
        limits = self._limits
        if state.get("OOMKilled"):
            return EnvironmentLacksError(
                f"the container hit its memory limit of {_size(limits.memory)}",
                f"raise it: --memory {2 * limits.memory // _UNITS['m']}m   or use a smaller"
                " --input or --size",
            )
        if self._processes:
            return EnvironmentLacksError(
                f"the container hit its limit of {limits.processes} processes and threads",
                f"raise it: --processes {2 * limits.processes}",
            )
        if self._temporary:
            return EnvironmentLacksError(
                f"the container filled its temporary folder of {_size(limits.temporary)}, half of"
                " its memory limit",
                f"raise it: --memory {2 * limits.memory // _UNITS['m']}m",
            )
        return None


def _size(size: int) -> str:
    return f"{size / GIGA:.1f} GB"
