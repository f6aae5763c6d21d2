"""Make allocations fail where the kernel would otherwise kill the process."""

import contextlib
import re
import resource
from pathlib import Path
from typing import Iterator, Optional

_SHARE = 0.95  # of the free memory; the rest is for what is not counted
_CGROUP = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Limit the address space in the block to what is in use plus the machine's free memory.

    An allocation beyond that raises in PyTorch and ONNX Runtime, and the results so far are kept.
    Not for a process that uses CUDA, which reserves far more addresses than memory.
    """
    free, used = free_memory(), _address_space()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if free is None or used is None:
        yield
        return
    limit = used + int(_SHARE * free)
    limits = [each for each in (limit, soft) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def free_memory() -> Optional[int]:
    """Return the bytes that can still be used on this machine or in this container, if known."""
    found = []
    text = _text(Path("/proc/meminfo"))
    available = re.search(r"MemAvailable:\s+(\d+) kB", text)
    if available:
        found.append(int(available.group(1)) * 1024)
    limit, used = _text(_CGROUP / "memory.max").strip(), _text(_CGROUP / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        cached = re.search(r"^inactive_file (\d+)", _text(_CGROUP / "memory.stat"), re.MULTILINE)
        found.append(max(0, int(limit) - int(used) + (int(cached.group(1)) if cached else 0)))
    return min(found) if found else None


def _address_space() -> Optional[int]:
    pages = _text(Path("/proc/self/statm")).split()
    return int(pages[0]) * resource.getpagesize() if pages else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # other systems
        return ""
