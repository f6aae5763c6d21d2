"""Time one run in milliseconds, on the CPU or a GPU, and make a CUDA graph of it."""

import time
from typing import Any, Callable

import torch

from trtyard.pipeline.stages import NotRunError

Run = Callable[[], Any]
CPU, CUDA = "cpu", "cuda"

_RUNS_BEFORE_CAPTURE = 3  # libraries choose kernels and take memory in the first ones


def milliseconds(run: Run, device: str) -> float:
    """Return the time of ``run``: between CUDA events for "cuda", by the clock for "cpu"."""
    if device == CUDA:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def captured(run: Run) -> Run:
    """Return a function that replays what ``run`` launches as one CUDA graph.

    Raises:
        NotRunError: this PyTorch has no CUDA graphs.
        RuntimeError: ``run`` cannot be captured, for example because it waits for the GPU.
    """
    if not hasattr(torch.cuda, "CUDAGraph"):
        raise NotRunError(f"torch {torch.__version__} has no CUDA graphs")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_RUNS_BEFORE_CAPTURE):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
