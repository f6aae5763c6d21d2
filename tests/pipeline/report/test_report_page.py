"""The page as a browser reads it: well formed, self-contained, and text is only ever text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_examples import (
    HOSTILE,
    NO_DEVICE,
    PAIR,
    SHA,
    a_classifier_report,
    a_failed_report,
    a_hostile_report,
    a_report,
    detector_outputs,
    stages_failed_at,
)

from trtyard.core.report import Package, Packages, Proposals, Stage, Weights
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs
from trtyard.pipeline.parity.outputs import compare
from trtyard.report.markup import Markup, joined, tag
from trtyard.report.page import page

PICTURE = "data:image/jpeg;base64,AAAA"
VOID = {"br", "img", "meta"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2", "h3",
    "p", "span", "b", "code", "pre", "ul", "ol", "li", "dl", "div", "dt", "dd", "table", "thead",
    "tbody", "tr", "th", "td", "figure", "figcaption", "img", "details", "summary", "svg", "line",
    "rect", "text",
}  # fmt: skip


class Page(HTMLParser):
    """Elements with their attributes and text; an error for what is not closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], {}
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), f"attribute twice: {attributes}"
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open[-1] == name, f"{name} closed inside {self.open}"
        self.open.pop()

    def handle_data(self, data):
        for name in set(self.open):
            self.texts.setdefault(name, []).append(data)

    def text(self, name="main"):
        return "".join(self.texts.get(name, []))

    def classes(self, name):
        return [attributes.get("class", "") for found, attributes in self.elements if found == name]


REPORTS = {
    "passed": a_report(),
    "failed": a_failed_report(),
    "classifier": a_classifier_report(),
    "export failed": a_report(stages=stages_failed_at("export"), parity=(), detections=(),
                              engine=None, artifacts={}),
    "hostile": a_hostile_report(),
    "nothing detected": a_report(
        compare_outputs("detector", PAIR, detector_outputs(0), detector_outputs(0))
    ),
    "broken outputs": a_report(
        compare_outputs("detector", PAIR, detector_outputs(), {"boxes": np.zeros(3)})
    ),
    "not finite": a_report(
        compare_outputs("tensor", PAIR, {"a": np.array([1, np.nan])}, {"a": np.array([np.inf, 1])})
    ),
}  # fmt: skip


@pytest.fixture(params=REPORTS, name="report")
def each_report(request):
    return REPORTS[request.param]


@pytest.mark.parametrize("picture", [None, PICTURE])
def test_page_is_well_formed(report, picture):
    html = page(report, picture)
    assert html.startswith("<!DOCTYPE html>\n<html")
    assert {name for name, _ in Page(html).elements} <= ALLOWED


def test_page_loads_nothing_and_runs_nothing(report):
    parsed = Page(page(report, PICTURE))
    for name, attributes in parsed.elements:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "data", "action", "poster"):
            assert attributes.get(key, PICTURE) == PICTURE, (name, key)
        assert "url(" not in attributes.get("style", "")
    style = parsed.text("style")
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in style.replace("://", "")
    policy = next(a["content"] for n, a in parsed.elements if n == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_user_text_is_text_everywhere():
    html = page(a_hostile_report())
    assert "<script" not in html
    assert "\x00" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    shown = HOSTILE.replace("\x00", " ").replace("\x1b", " ").replace("\u202e", " ")
    # At least once for each place that a_hostile_report fills.
    assert Page(html).text().count(shown) >= 25
    assert shown in Page(html).text("title")


def test_verdict_is_at_the_top_with_skipped_stages():
    parsed = Page(page(a_report()))
    text = parsed.text()
    agree = text.index("PyTorch and ONNX Runtime agree")
    assert agree < text.index(f"TensorRT ({NO_DEVICE})") < text.index("Stages")
    assert "passed, 1 stage not run" in text[: text.index("Stages")]


def stage_items(html):
    stages = re.search(r'<ol class="stages">(.*?)</ol>', html, re.S).group(1)
    return re.findall(r"<li>(.*?)</li>", stages, re.S)


def test_skipped_stages_are_never_shown_as_passed():
    for name in ("torch", "onnxruntime", "plugins", "tensorrt"):
        stages = tuple(
            Stage(name, "not-run", reason="for a reason") if stage.name == name else
            stage._replace(status="passed", seconds=1.0, reason=None)
            for stage in a_report().stages
        )  # fmt: skip
        items = stage_items(page(a_report(stages=stages)))
        idle = [item for item in items if "for a reason" in item]
        assert len(idle) == 1
        assert "not run" in idle[0]
        assert "passed" not in idle[0]
        assert 'class="bar"' not in idle[0]
        assert sum("passed" in item for item in items) == len(items) - 1


def test_time_bars_are_in_proportion():
    widths = [float(width) for width in re.findall(r'style="width:([0-9.]+)%"', page(a_report()))]
    assert widths == pytest.approx([100 * s / 9.0 for s in (3.1, 9.0, 2.0, 4.0, 1.4)], abs=0.06)


def test_passed_and_failed_verdicts_look_different():
    assert "verdict passed" in Page(page(a_report())).classes("section")
    assert "verdict failed" in Page(page(a_failed_report())).classes("section")
    stages = tuple(Stage(s.name, "not-run", reason="x") for s in a_report().stages)
    nothing = a_report(stages=stages, parity=(), detections=())
    assert "verdict not-run" in Page(page(nothing)).classes("section")


def test_failed_comparison_shows_where():
    text = Page(page(a_failed_report())).text()
    assert "worst at [1, 1]: 10 against 14" in text
    assert "Matched, but beyond the tolerance:" in text
    beyond = text[text.index("Matched, but beyond the tolerance:") : text.index("All 3 matched")]
    assert "car 0.7000" in beyond
    assert "boat 0.7000" in beyond
    assert "bicycle 0.8000" in beyond
    assert "person" not in beyond
    assert "ONNX Runtime has" not in text


def test_invalid_detections_show_a_reason_only():
    text = Page(page(REPORTS["broken outputs"])).text()
    assert "onnxruntime: no output count" in text
    assert "0 of 0" not in text


def test_unmatched_detections_are_listed():
    fewer = compare_outputs("detector", PAIR, detector_outputs(3), detector_outputs(2))
    text = Page(page(a_report(fewer))).text()
    assert "2 of 3 matched, ONNX Runtime has 2" in text
    assert "Matched, but beyond" not in text
    assert "car 0.7000 only in PyTorch" in text


@pytest.mark.parametrize(("source", "said"), [("seeded:0", True), ("r50.pth", False)])
def test_seeded_weights_add_a_note_about_labels(source, said):
    report = a_report()
    report = report._replace(inputs=report.inputs._replace(weights=Weights(source, SHA)))
    assert ("not trained" in Page(page(report, PICTURE)).text()) == said


def test_tolerances_and_their_sources_are_shown():
    text = Page(page(a_report())).text()
    assert "0.05 + 1e-4" in text
    for row in a_report().parity:
        assert row.tolerance_source in text


def test_engine_versions_and_hashes_are_shown():
    parsed = Page(page(a_report()))
    text = parsed.text()
    assert "PaddedNMS \N{MULTIPLICATION SIGN} 2, MaskRcnnROIAlign" in text
    assert "598 in the network" in text
    assert text.count(SHA) == 3
    assert text.index("1.7.1.116") > text.index("Stages")
    assert "./run convert --model faster_rcnn" in text


@pytest.mark.parametrize(
    ("alive", "padded", "words", "advice"),
    [(40, 300, "40 of 300", True), (290, 300, "290 of 300", False), (40, None, "40 in", False)],
)
def test_live_and_padded_proposals_are_shown(alive, padded, words, advice):
    text = Page(page(a_report(proposals=(Proposals("torch", alive, padded),)))).text()
    assert f"Proposals alive: {words}" in text
    assert ("--top-n" in text) == advice


def with_one_output(reference, candidate, atol, rtol):
    return a_report(Comparison((compare(PAIR, "a", reference, candidate, atol, rtol),), ()))


def bars(html, kind):
    return [float(h) for h in re.findall(rf'height="([0-9.]+)"[^>]*class="{kind}"', html)]


def test_histogram_has_a_bar_for_each_decade_that_has_elements():
    reference = np.arange(1, 1001, dtype=np.float64)
    candidate = reference.copy()
    candidate[:900] += 2e-9
    candidate[900:990] += 2e-5
    html = page(with_one_output(reference, candidate, 0.01, 1e-3))
    within = bars(html, "within")
    assert len(within) == 2
    assert within[0] > within[1]
    assert len(bars(html, "exact")) == 1
    assert bars(html, "beyond") == []
    assert "tolerance 0.01 + relative part" in Page(html).text("svg")
    for count in ("900", "90", "10"):
        assert count in Page(html).text("svg")


def test_bars_beyond_the_tolerance_are_marked():
    html = page(a_classifier_report(difference=1e-2))
    assert len(bars(html, "beyond")) >= 1
    assert bars(page(a_classifier_report(difference=1e-8)), "beyond") == []


def test_decades_beyond_the_tolerance_are_red():
    differences = np.array([5e-4, 5e-5, 5e-6, 5e-2])
    html = page(with_one_output(np.zeros(4), differences, 3e-4, 0.0))
    assert (len(bars(html, "within")), len(bars(html, "beyond"))) == (2, 2)
    parsed = Page(html)
    ends = {"within": [], "beyond": []}
    for name, attributes in parsed.elements:
        if name == "rect":
            left = float(attributes["x"])
            ends[attributes["class"]].append((left, left + float(attributes["width"])))
        if attributes.get("class") == "limit":
            limit = float(attributes["x1"])
    assert max(right for _, right in ends["within"]) < limit
    assert min(ends["beyond"])[0] < limit < min(ends["beyond"])[1]  # 1e-4 to 1e-3 holds 3e-4
    assert limit < max(ends["beyond"])[0]


def test_identical_outputs_say_so_instead_of_an_empty_chart():
    same = {"a": np.ones(7, np.float32)}
    html = page(a_report(compare_outputs("tensor", PAIR, same, same)))
    assert "all 7 are identical" in Page(html).text()
    assert "<svg" not in html


def test_every_bar_stays_inside_its_drawing(report):
    for name, attributes in Page(page(report)).elements:
        if name == "svg":
            width, height = map(float, attributes["viewbox"].split()[2:])
        if name == "rect":
            left, top = float(attributes["x"]), float(attributes["y"])
            assert left >= 0
            assert left + float(attributes["width"]) <= width
            assert top >= 0
            assert top + float(attributes["height"]) <= height


def test_markup_is_kept_and_text_is_escaped():
    assert joined("<", Markup("<b>"), None) == "&lt;<b>"
    assert tag("p", "a&b", class_='"', data_x=None) == '<p class="&quot;">a&amp;b</p>'
    assert tag("line", stroke_width=1.5) == '<line stroke-width="1.5"></line>'


def test_packages_are_shown_with_version_and_hash():
    packages = Packages(("timm>=1",), (Package("timm", "1.0.31", SHA),))
    text = page(a_report()._replace(packages=packages))
    block = text[text.index("<h3>Packages</h3>") :]
    for shown in ("Asked for", "timm&gt;=1", "1.0.31", SHA):
        assert shown in block
    assert "<h3>Packages</h3>" not in page(a_report())
