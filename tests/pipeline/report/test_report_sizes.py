"""How reports show the sizes of a dynamic model."""

import json
import xml.etree.ElementTree as Tree

import numpy as np
from report_examples import PAIR, a_report, verdict

from trtyard.core.report import DynamicDimension, SizeParity, exit_code
from trtyard.core.report_json import report_value
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.report.console import WIDTH, console_table
from trtyard.report.junit import junit_text
from trtyard.report.page import page
from trtyard.report.reading import report_of

DIMENSIONS = (
    DynamicDimension("batch", ("ids[0]", "mask[0]"), ((1, 4, 8), (16, 16, 16))),
    DynamicDimension("s", ("ids[1]",), ((1, 16, 128), (1, 16, 16))),
)


def size(role, batch, sentence, error=0.0, problem=None):
    """A comparison whose one output differs by ``error``, or has nothing to compare."""
    reference = {"output": np.arange(8, dtype=np.float32)}
    candidate = {"output": reference["output"] + np.float32(error)}
    found = compare_outputs("tensor", PAIR, reference, candidate)
    sizes = {"batch": batch, "s": sentence}
    if problem is not None:
        return SizeParity(PAIR, role, sizes, False, problem=problem)
    return SizeParity(PAIR, role, sizes, found.passed, found.parity)


def report_with(*sizes):
    return a_report(detections=(), parity=sizes[0].parity, dimensions=DIMENSIONS, sizes=sizes)


GOOD = report_with(size("opt", 4, 16), size("min", 1, 1), size("max", 8, 128, 1e-6))
BAD = report_with(
    size("opt", 4, 16),
    size("min", 1, 1, 0.5),
    size("max", 8, 128, problem="ONNX Runtime cannot run model.onnx: Reshape"),
)


def test_sizes_that_pass_share_a_line_from_the_smallest_on():
    lines = console_table(GOOD).splitlines()
    head = next(line for line in lines if line.endswith("batch x s"))
    assert head.startswith("torch/onnxruntime")
    row = lines[lines.index(head) + 1]
    assert row.split() == ["3", "sizes", "passed", "1e-6", "1x1,", "4x16,", "8x128"]
    assert verdict(GOOD)[0] == 0


def test_failed_size_has_a_line_and_fails_the_conversion():
    text = console_table(BAD)
    lines = text.splitlines()
    assert any(line.split() == ["1", "size", "passed", "0", "4x16"] for line in lines)
    assert any(line.split() == ["min", "FAILED", "0.5", "1x1"] for line in lines)
    assert any(line.split() == ["max", "FAILED", "-", "8x128"] for line in lines)
    assert "ONNX Runtime cannot run model.onnx: Reshape" in text
    assert all(len(line) <= WIDTH for line in lines)
    code, words = verdict(BAD)
    assert code == exit_code(BAD) == 1
    assert "PyTorch and ONNX Runtime disagree at 2 of 3 sizes (batch x s 1x1 and 8x128)." in words


def test_a_wrong_size_alone_is_no_agreement():
    assert "agree within" not in verdict(BAD)[1]
    assert "agree within" in verdict(GOOD)[1]


def test_the_page_has_the_ranges_and_every_size():
    html = page(BAD)
    assert "1 to 8, optimized for 4; 16" in html
    assert "batch 8, s 128" in html
    assert "ONNX Runtime cannot run model.onnx: Reshape" in html
    assert "<h2>Sizes</h2>" not in page(a_report())


def test_each_size_is_a_testcase():
    parsed = Tree.fromstring(junit_text(BAD).encode("utf-8"))  # noqa: S314 (our own)
    suites = {one.get("name"): one for one in parsed}
    sizes = suites["sizes"]
    assert (sizes.get("tests"), sizes.get("failures")) == ("3", "2")
    assert next(one.get("name") for one in sizes) == "torch-onnxruntime batch 4, s 16"
    assert "sizes" not in junit_text(a_report())


def test_sizes_are_read_as_they_were_written():
    value = json.loads(json.dumps(report_value(BAD)))
    assert value["verdict"]["exit_code"] == 1
    again = report_of(value)
    assert again.sizes == BAD.sizes
    assert again.dimensions == DIMENSIONS
