"""The reduced precisions of a report: a table on the page, and its figures in short form."""

from trtyard.core.precisions import FP32
from trtyard.core.report import FAILED, NOT_RUN, PASSED, Agreement, Precision, Report, Stage
from trtyard.report import words
from trtyard.report.markup import Child, Markup, joined, tag
from trtyard.report.sections import badge, section

_HEAD = (
    "Precision",
    "Result",
    "Relative error",
    "Cosine",
    "Agreement with PyTorch",
    "ONNX file",
    "Engine",
    "ONNX Runtime, CPU",
)


def precision_status(each: Precision) -> str:
    """Return passed, failed or not-run: what a precision's stages and budget come to."""
    statuses = [stage.status for stage in each.stages]
    judged = (*(one.passed for one in each.values), *(one.passed for one in each.agreements))
    if FAILED in statuses or not all(judged):
        return FAILED
    return PASSED if PASSED in statuses else NOT_RUN


def worst_error(each: Precision) -> float | None:
    """Return the largest relative error of an output; None if nothing was compared."""
    found = [one.relative_error for one in each.values if one.relative_error is not None]
    return max(found, default=None)


def worst_cosine(each: Precision) -> float | None:
    """Return the smallest cosine of an output; None if nothing was compared."""
    return min((one.cosine for one in each.values if one.cosine is not None), default=None)


def agreement_in_words(one: Agreement) -> str:
    """Return an agreement in short form: "top-1 94 % of 16 held-out"."""
    share = f"{one.measure} {100 * one.value:.3g} %"
    of = share if one.measure == "mAP" else f"{share} of {one.compared:,}"
    bound = f", at least {100 * one.least:.3g} %" if one.least is not None else ""
    return f"{of} ({'held-out data' if one.data == 'held-out' else 'this input'}{bound})"


def precision_notes(each: Precision) -> list[str]:
    """Return what to know of a reduced precision's results, a sentence each."""
    stages = each.stages if each.name != FP32 else ()
    told = [f"{words.subject(stage.name)} {stage.note}" for stage in stages if stage.note]
    problems = [f"{one.output}: {one.problem}" for one in each.values if one.problem]
    return [*told, *problems, *each.notes]


def unfinished_stages(each: Precision) -> list[Stage]:
    """Return the stages of a reduced precision that did not pass."""
    return [stage for stage in each.stages if stage.status != PASSED]


def precisions_section(report: Report) -> Markup | None:
    """Return the table over all precisions; None without a reduced one."""
    if not report.precisions:
        return None
    body = [
        tag(
            "tr",
            *(
                tag("td", cell, data_name=name)
                for name, cell in zip(_HEAD, _cells(each), strict=True)
            ),
        )
        for each in report.precisions
    ]
    heads = tag("tr", *(tag("th", name, scope="col") for name in _HEAD))
    note = (
        "Compared with PyTorch in fp32. Outputs are compared over all samples together. Shares "
        "without a bound are shown, not judged: with seeded weights, or fewer than 20 samples, "
        "they say little."
    )
    return section(
        "Precisions",
        tag("table", tag("thead", heads), tag("tbody", *body)),
        tag("p", note, class_="note"),
        *(_details(each) for each in report.precisions[1:]),
    )


def _cells(each: Precision) -> list[Child]:
    cosine = worst_cosine(each)
    return [
        tag("b", each.name),
        badge(precision_status(each)),
        words.number(worst_error(each)),
        words.NOTHING if cosine is None else words.cosine(cosine),
        "; ".join(map(agreement_in_words, each.agreements)) or words.NOTHING,
        words.NOTHING if each.file_bytes is None else words.size(each.file_bytes),
        words.NOTHING if each.engine_bytes is None else words.size(each.engine_bytes),
        words.seconds(each.seconds),
    ]


def _details(each: Precision) -> Markup:
    items = [
        f"{words.stage_name(stage.name)}: {words.status_word(stage.status)}: {stage.reason or ''}"
        for stage in unfinished_stages(each)
    ]
    items += precision_notes(each)
    if each.reduced_nodes is not None:
        kept = ", ".join(f"{number} {reason}" for reason, number in each.kept_nodes.items())
        items.append(f"{each.reduced_nodes} nodes reduced; in fp32: {kept or 'none by rule'}")
    for one in each.values[:1]:
        items.append(
            f"Budget: relative error up to {words.number(one.largest_error)}, cosine at least "
            f"{one.least_cosine:g}. {each.budget_source}"
        )
    return joined(tag("h3", each.name), tag("ul", *(tag("li", item) for item in items)))
