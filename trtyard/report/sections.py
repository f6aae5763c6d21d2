"""The sections of a report's page: verdict, stages, engine, notes, and inputs with hashes."""

from trtyard.core.report import (
    FAILED,
    NOT_RUN,
    PASSED,
    Report,
    Stage,
    compared_pairs,
    declared,
    exit_code,
)
from trtyard.report import words
from trtyard.report.charts import time_bar
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.verdict import judge

Facts = list[tuple[str, Child]]  # names and values

_SIGNS = {"passed": "✓", "failed": "✗", "not-run": words.NOTHING}


def section(title: str, *children: Child) -> Markup:
    """Return a section with a heading."""
    return tag("section", tag("h2", title), *children)


def badge(status: str, text: str | None = None) -> Markup:
    """Return a status as a sign and a word, or with other text; never by colour alone."""
    sign = tag("span", _SIGNS.get(status, ""), aria_hidden="true")
    return tag("span", sign, " ", text or words.status_word(status), class_=f"badge {status}")


def passed_badge(passed: bool) -> Markup:
    """Return the badge of a comparison."""
    return badge(PASSED if passed else FAILED)


def definitions(pairs: Facts, class_: str | None = None) -> Markup:
    """Return a list of names and values, without values of None."""
    rows = [
        tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value is not None
    ]
    return tag("dl", *rows, class_=class_)


def header(report: Report) -> Markup:
    """Return the page's header: model, row, precision and executor."""
    chips = [report.row, report.precision, f"on the {report.executor}"]
    if report.executor == "docker":
        chips[-1] = "in Docker"
    return tag(
        "header",
        tag("p", "trtyard conversion report", class_="kicker"),
        tag("h1", report.model),
        tag("p", *(tag("span", chip, class_="chip") for chip in chips), class_="chips"),
    )


def verdict_section(report: Report) -> Markup:
    """Return the verdict, the stages that were not run, and the most important figures."""
    judged, status = judge(report), status_of(report)
    lines = [tag("p", caution, class_="caution") for caution in judged.cautions]
    if judged.not_run:
        items = [tag("li", words.one_line(reason)) for reason in judged.not_run]
        lines.append(tag("p", "Not run, and so not verified:", class_="not-run-title"))
        lines.append(tag("ul", *items))
    return tag(
        "section",
        tag("p", badge(status, _status(report, status)), class_="status"),
        tag("h2", judged.headline),
        *lines,
        _key_figures(report),
        class_=f"verdict {status}",
    )


def status_of(report: Report) -> str:
    """Return the status of the conversion: passed, failed or not-run."""
    code = exit_code(report)
    if not any(stage.status == PASSED for stage in report.stages) and code != 4:
        return NOT_RUN
    return FAILED if code else PASSED


def _status(report: Report, status: str) -> str:
    idle = sum(stage.status == NOT_RUN for stage in report.stages)
    rest = f", {words.counted(idle, 'stage')} not run" if idle and status != NOT_RUN else ""
    if status == PASSED and not compared_pairs(report):
        rest = ", nothing compared" + rest
    return words.status_word(status) + rest


def _key_figures(report: Report) -> Markup | None:
    figures: Facts = []
    for each in report.detections[:1]:
        if each.problem is None:
            figures.append(("detections matched", f"{each.matched} of {each.reference}"))
        if each.matched:
            figures.append(("largest box difference", f"{words.number(each.worst_box_diff)} px"))
            figures.append(("largest score difference", words.number(each.worst_score_diff)))
    if not report.detections:
        for row in report.parity[:2]:
            name = "largest difference" if len(report.parity) == 1 else f"largest in {row.output}"
            figures.append((name, words.number(row.max_abs)))
    total = sum(stage.seconds or 0 for stage in report.stages)
    figures.append(("all stages together", words.seconds(total)))
    if report.peak_memory_bytes is not None:
        figures.append(("peak memory", words.size(report.peak_memory_bytes)))
    return definitions(figures, "figures")


def stages_section(report: Report) -> Markup:
    """Return the list of stages with result, time, and the reason if a stage did not pass."""
    longest = max((stage.seconds or 0 for stage in report.stages), default=0)
    return section(
        "Stages", tag("ol", *(_stage(stage, longest) for stage in report.stages), class_="stages")
    )


def _stage(stage: Stage, longest: float) -> Markup:
    lines = []
    if stage.status != PASSED:
        lines.append(tag("p", stage.reason or "", class_="reason"))
        if stage.hint:
            lines.append(tag("p", tag("b", "What to do: "), stage.hint, class_="hint"))
    if stage.note:
        lines.append(tag("p", stage.note, class_="note"))
    return tag(
        "li",
        tag("span", words.stage_name(stage.name), class_="name"),
        badge(stage.status),
        time_bar(stage.seconds, longest),
        tag("span", words.seconds(stage.seconds), class_="time"),
        *lines,
    )


def onnx_section(report: Report) -> Markup | None:
    """Return what the given ONNX file declares and what --simplify did; None if neither is."""
    file, simplified = report.onnx_file, report.simplified
    facts: Facts = []
    if file is not None:
        facts += [
            ("Nodes", f"{file.nodes:,}"),
            ("Opset", f"{file.opset}, IR version {file.ir_version}"),
            ("Written by", file.producer or None),
        ]
        facts += [("Input", declared(one)) for one in file.inputs]
        facts += [("Output", declared(one)) for one in file.outputs]
    if simplified is not None:
        text = f"{simplified.before:,} nodes before, {simplified.after:,} after"
        facts.append(("Simplified", text))
    return section("ONNX file", definitions(facts)) if facts else None


def engine_section(report: Report) -> Markup | None:
    """Return the engine's size, layers, plugins and warnings; None without an engine."""
    engine = report.engine
    if engine is None:
        return None
    plugins: dict[str, int] = {}
    for name in engine.plugin_layers:
        plugins[name] = plugins.get(name, 0) + 1
    names = [
        f"{name} {words.TIMES} {count}" if count > 1 else name for name, count in plugins.items()
    ]
    warnings = None
    if engine.warnings:
        lines = tag("pre", "\n".join(engine.warnings))
        title = tag("summary", words.counted(len(engine.warnings), "warning") + " of the builder")
        warnings = tag("details", title, lines)
    exporter = None
    if report.exporter is not None:
        exporter = f"{report.exporter} exporter, opset {report.opset}"
    return section(
        "Engine",
        definitions(
            [
                ("Size", words.size(engine.bytes)),
                ("Layers", f"{engine.layers:,} in the network, before fusion"),
                ("Plugin layers", ", ".join(names) or "none: the model needs no plugin"),
                ("Optimization profiles", f"{engine.profiles}" if engine.profiles else None),
                ("ONNX", exporter),
            ]
        ),
        warnings,
    )


def origin_section(report: Report) -> Markup:
    """Return inputs and artifacts with their hashes, versions, and the command to repeat it."""
    inputs = report.inputs
    times = f" {words.TIMES} "
    given: Facts = [
        (tensor.name, f"{tensor.dtype} {times.join(map(str, tensor.shape))}")
        for tensor in inputs.tensors
    ]
    if inputs.image is not None:
        text = f"{inputs.image.name}, {inputs.image.width}{times}{inputs.image.height} pixels"
        given.append(("Picture", joined(text, _hash(inputs.image.sha256))))
    if inputs.weights is not None:
        weights = inputs.weights
        address = weights.address
        is_new = address is not None and address not in weights.source
        place = f", from {address}" if is_new else None
        given.append(("Weights", joined(weights.source, place, _hash(weights.sha256))))
    left: Facts = [
        (name, joined(words.size(facts["bytes"]), _hash(facts["sha256"])))
        for name, facts in report.artifacts.items()
    ]
    again: Facts = [("Created", report.created)]
    if report.command is not None:
        again.insert(0, ("Command", tag("code", report.command)))
    added: Facts = []
    if report.packages is not None:
        added.append(("Asked for", ", ".join(report.packages.asked)))
        added += [
            (one.name, joined(one.version, _hash(one.sha256))) for one in report.packages.installed
        ]
    blocks: dict[str, Facts] = {
        "Inputs": given,
        "Artifacts": left,
        "Packages": added,
        "Versions": [*report.versions.items()],
        "Repeat": again,
    }
    return section(
        "Origin",
        *(
            joined(tag("h3", title), definitions(facts, "many" if title == "Versions" else None))
            for title, facts in blocks.items()
            if any(value is not None for _name, value in facts)
        ),
    )


def notes_section(report: Report) -> Markup | None:
    """Return the report's notes; None if there are none."""
    if not report.notes:
        return None
    return section("Notes", tag("ul", *(tag("li", note) for note in report.notes)))


def _hash(digest: str) -> Markup:
    return tag("span", f"sha256 {digest}", class_="hash")
