"""junit.xml: a testcase for each stage, each compared output and each image with detections.

A stage that was not run is ``skipped`` with its reason: JUnit reads a bare testcase as passed.
"""

import xml.etree.ElementTree as Tree

from trtyard.core.report import FAILED, PASSED, Report, Stage, precision_stages
from trtyard.report import words
from trtyard.report.facts import detection_facts, parity_facts
from trtyard.report.precision_section import agreement_in_words
from trtyard.report.size_facts import largest_difference, size_remarks, size_words


def junit_text(report: Report) -> str:
    """Return the report as a JUnit XML document."""
    suites = [
        _suite(report, "stages", [_stage_case(stage) for stage in report.stages]),
        _suite(
            report,
            "parity",
            [
                _case(f"{'-'.join(row.pair)} {row.output}", row.passed, parity_facts(row))
                for row in report.parity
            ]
            or _nothing_compared(report),
        ),
        _suite(
            report,
            "detections",
            [
                _case(
                    f"{'-'.join(each.pair)} image {each.image}", each.passed, detection_facts(each)
                )
                for each in report.detections
            ],
        ),
    ]
    if report.sizes:
        cases = [
            _case(
                f"{'-'.join(each.pair)} {size_words(each)}",
                each.passed,
                size_remarks(each) or f"max abs {words.number(largest_difference([each]))}",
            )
            for each in report.sizes
        ]
        suites.append(_suite(report, "sizes", cases))
    if report.precisions:
        suites.append(_suite(report, "precisions", _precision_cases(report)))
    root = Tree.Element("testsuites", {"name": words.one_line(f"{report.model} {report.row}")})
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    xml = Tree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def _precision_cases(report: Report) -> list[Tree.Element]:
    cases = [_stage_case(stage) for stage in precision_stages(report)]
    for each in report.precisions[1:]:
        for one in each.values:
            facts = (
                f"relative error {words.number(one.relative_error)} of at most "
                f"{words.number(one.largest_error)}, cosine {one.cosine} of at least "
                f"{one.least_cosine}; {one.problem or ''}"
            )
            cases.append(_case(f"{each.name} {one.runtime} {one.output}", one.passed, facts))
        for share in each.agreements:
            name = f"{each.name} {share.runtime} {share.measure} {share.data}"
            cases.append(_case(name, share.passed, agreement_in_words(share)))
    return cases


def _suite(report: Report, name: str, cases: list[Tree.Element]) -> Tree.Element:
    suite = Tree.Element("testsuite", {"name": name})
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    for case in cases:
        case.set("classname", words.one_line(f"{report.row}.{report.model}.{name}"))
    suite.extend(cases)
    return suite


def _nothing_compared(report: Report) -> list[Tree.Element]:
    """Return a skipped case if only one runtime ran, so that no comparison could be made."""
    ran = [stage.name for stage in report.stages if stage.status == PASSED]
    if report.onnx_file is None or report.detections or "onnxruntime" not in ran:
        return []
    case = Tree.Element("testcase", {"name": "outputs", "time": "0.000"})
    _child(case, "skipped", "nothing was compared: only ONNX Runtime ran", None)
    return [case]


def _stage_case(stage: Stage) -> Tree.Element:
    name = words.one_line(stage.name)
    case = Tree.Element("testcase", {"name": name, "time": f"{stage.seconds or 0:.3f}"})
    if stage.status == FAILED:
        _child(case, "failure", stage.reason, stage.hint)
    elif stage.status != PASSED:
        _child(case, "skipped", stage.reason, stage.hint)
    if stage.note:
        Tree.SubElement(case, "system-out").text = words.printable(stage.note)
    return case


def _case(name: str, passed: bool, facts: str) -> Tree.Element:
    case = Tree.Element("testcase", {"name": words.one_line(name), "time": "0.000"})
    if passed:
        Tree.SubElement(case, "system-out").text = words.printable(facts)
    else:
        _child(case, "failure", facts, None)
    return case


def _child(case: Tree.Element, kind: str, reason: str | None, hint: str | None) -> None:
    text = words.printable("\n".join(filter(None, (reason, hint))))
    child = Tree.SubElement(case, kind, {"message": words.one_line(reason or "")})
    child.text = text
