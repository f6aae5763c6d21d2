"""The latencies of a report in short form, for the page and the terminal."""

from trtyard.core.precisions import FP32
from trtyard.core.report import FEWEST_FOR_P99, Latency, Report, Timing, exit_code
from trtyard.report import words


def runtime_title(each: Timing) -> str:
    """Return a runtime as "PyTorch compiled, CUDA graph" or "ONNX Runtime int8"."""
    precision = "" if each.precision == FP32 else f" {each.precision}"
    return words.runtime_name(each.runtime) + precision + (", CUDA graph" if each.is_graph else "")


def p99(each: Timing) -> str:
    """Return the 99th percentile, or a dash for too few runs."""
    return words.milliseconds(each.p99_ms)


def throughput(each: Timing) -> str:
    """Return the items per second with three significant digits."""
    value = each.items_per_second or 0.0
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def by_batch(latency: Latency) -> dict[int, list[Timing]]:
    """Return the timings of each batch size."""
    found: dict[int, list[Timing]] = {}
    for each in latency.timings:
        found.setdefault(each.batch, []).append(each)
    return found


def cautions(report: Report, latency: Latency) -> list[str]:
    """Return why the times say less than it seems, a sentence each."""
    found = []
    if exit_code(report):
        found.append("The conversion did not pass: the runtimes may not compute the same.")
    ran = [each for each in latency.timings if each.reason is None]
    if any(each.p99_ms is None for each in ran):
        found.append(f"p99 needs {FEWEST_FOR_P99} runs: add --seconds or --runs for more.")
    if not ran:
        found.append("No runtime was timed.")
    return found
