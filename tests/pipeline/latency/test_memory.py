"""Too large an allocation raises, and the process goes on."""

import resource
import subprocess
import sys
from pathlib import Path

from trtyard.pipeline.latency.memory import free_memory, limited_memory

ROOT = Path(__file__).resolve().parents[3]

# In a process of its own: the limit is the process's.
ALLOCATE = """
import numpy as np
import torch

from trtyard.pipeline.latency.memory import free_memory, limited_memory

size = free_memory()  # the kernel itself would promise that much
with limited_memory():
    for allocate in (
        lambda: torch.empty(size, dtype=torch.uint8),
        lambda: np.empty(size, np.uint8),
        lambda: bytearray(size),
    ):
        try:
            allocate()
        except (RuntimeError, MemoryError):
            print("refused")
    torch.ones(1000).sum()
print("left", np.empty(size, np.uint8).size == size)
"""


def test_memory_that_is_not_there_is_refused_and_the_rest_works():
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["refused"] * 3 + ["left", "True"], done.stderr


def test_limit_ends_with_the_block():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limited_memory():
        assert resource.getrlimit(resource.RLIMIT_AS)[0] > 0
        assert resource.getrlimit(resource.RLIMIT_AS) != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_free_memory_is_known_here():
    assert free_memory() > 0
