"""The section of a report's page about latency: times, charts, and the slowest layers."""

from trtyard.core.report import Latency, LayerProfile, Report, Timing
from trtyard.report import words
from trtyard.report.charts import latency_bars
from trtyard.report.comparison_sections import table
from trtyard.report.latency_facts import by_batch, cautions, p99, runtime_title, throughput
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.sections import definitions, section

_HEAD = ("Runtime", "Device", "Median", "p99", "Longest", "Items per second", "Runs", "Ready after")
_LAYER_HEAD = ("Layer", "Kind", "Time", "Share")


def latency_section(report: Report) -> Markup | None:
    """Return the section; None if the report is not by ./run bench."""
    latency = report.latency
    if latency is None:
        return None
    return section(
        "Latency",
        *(tag("p", caution, class_="caution") for caution in cautions(report, latency)),
        *(_batch(batch, each) for batch, each in by_batch(latency).items()),
        *(_layers(each) for each in latency.profiles),
        _surroundings(latency),
    )


def _batch(batch: int, timings: list[Timing]) -> Markup:
    ran = [each for each in timings if each.reason is None]
    idle = [each for each in timings if each.reason is not None]
    items = [
        tag("li", f"{runtime_title(each)}: not run: {words.one_line(each.reason or '')}")
        for each in idle
    ]
    notes = [tag("li", f"{runtime_title(each)}: {each.note}") for each in ran if each.note]
    return joined(
        tag("h3", f"Batch {batch}"),
        latency_bars([(runtime_title(each), each) for each in ran]),
        table(_HEAD, [_cells(each) for each in ran]) if ran else None,
        tag("ul", *items, *notes) if items or notes else None,
    )


def _cells(each: Timing) -> list[Child]:
    return [
        tag("b", runtime_title(each)),
        "GPU" if each.device == "cuda" else "CPU",
        words.milliseconds(each.median_ms),
        p99(each),
        words.milliseconds(each.longest_ms),
        throughput(each),
        f"{each.runs:,}",
        words.seconds(each.ready_seconds),
    ]


def _layers(each: LayerProfile) -> Markup:
    title = tag("h3", f"Layers of the {each.precision} engine, batch {each.batch}")
    if each.reason is not None or each.milliseconds is None:
        return joined(title, tag("p", f"Not known: {each.reason}"))
    total = each.milliseconds
    share = "not known" if each.plugin_share is None else f"{100 * each.plugin_share:.1f} %"
    rows: list[list[Child]] = [
        [
            one.name,
            "plugin" if one.is_plugin else words.NOTHING,
            words.milliseconds(one.milliseconds),
            f"{100 * one.milliseconds / total:.1f} %" if total else words.NOTHING,
        ]
        for one in each.slowest
    ]
    facts: list[tuple[str, Child]] = [
        ("Layers", f"{each.layers:,}, {words.milliseconds(total)} together with the profiler on"),
        ("Share of plugins", share),
    ]
    return joined(title, definitions(facts), table(_LAYER_HEAD, rows))


def _surroundings(latency: Latency) -> Markup:
    load = None if latency.load is None else f"{latency.load:.1f} processes before the timing"
    facts: list[tuple[str, Child]] = [
        ("Processor", latency.processor),
        ("Threads", f"{latency.threads} in PyTorch and in ONNX Runtime"),
        ("Load", load),
        ("GPU", latency.gpu),
        ("GPU clock", latency.clocks),
    ]
    note = (
        f"The runtimes took turns in {words.counted(latency.rounds, 'round')}, after a warm-up. On "
        "a GPU, times are between CUDA events; on the CPU, by the clock. Inputs and outputs stay "
        "where the runtime computes."
    )
    return joined(tag("h3", "Measured on"), definitions(facts), tag("p", note, class_="note"))
