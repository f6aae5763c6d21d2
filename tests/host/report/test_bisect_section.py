"""Where two runtimes diverge, on the page and on the terminal."""

import pytest

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.report import (
    NOT_RUN,
    PASSED,
    STAGES,
    Bisection,
    Divergence,
    Growth,
    OutputParity,
    Report,
    Stage,
    TensorInput,
    WorstElement,
)
from trtyard.core.report_json import report_value
from trtyard.core.request import ConversionRequest
from trtyard.report import words
from trtyard.report.bisect_section import bisect_section
from trtyard.report.console import console_table
from trtyard.report.page import page
from trtyard.report.reading import report_of
from trtyard.report.result import bisect_command
from trtyard.run.bisect import bisect
from trtyard.run.convert import job_of

PAIR = ("torch", "onnxruntime")
DIVERGENCE = Divergence(
    *("/Mul", "Mul", "/Mul_output_0", (1, 8, 4), "float32", "head", "net.py:12 in forward"),
    *((TensorInput("x", (1, 8, 4), "float32"),), 1, 0.25, 3, 32),
    WorstElement((0, 7, 3), 0.5, 0.75),
    *("value-frozen", "the file holds the constant c = 0.37", "net.py:9 in forward"),
    (Growth("/Mul_output_0", "Mul", 0.25), Growth("out", "Add", 0.125)),
    ("bisect/case1.onnx", "bisect/case1.npz", "bisect/case1.py"),
)


def report(bisection, passed=False):
    stages = tuple(
        Stage(name, PASSED, 1.0) if name in STAGES[:3] else Stage(name, NOT_RUN, reason="not here")
        for name in STAGES
    )
    parity = (OutputParity(PAIR, "out", 9, 0.25, 0.5, 1.0, 1e-3, 0.0, 1, passed),)
    command = "./run convert --model net.py:make --trt rtx-1.7"
    return Report(
        *("rtx-1.7", "net", "fp32", "host", stages, parity), bisection=bisection, command=command
    )


def test_page_has_node_line_cause_fix_and_chart():
    html = page(report(Bisection(PAIR, 40, (DIVERGENCE,), 1.5)))
    assert "Where they diverge" in html
    for text in ("Mul /Mul", "net.py:12 in forward", "net.py:9 in forward", "c = 0.37"):
        assert text in html
    assert f"x: float32 {words.TIMES.join('184')}" in html
    assert "a value left the tensors" in html
    assert f"Add out: {words.number(0.125)}" in html
    assert "bisect/case1.py" in html


def test_terminal_names_node_line_cause_and_script():
    text = console_table(report(Bisection(PAIR, 40, (DIVERGENCE,), 1.5)))
    assert "1 node gave a" in text
    assert "1. Mul /Mul" in text
    assert "at net.py:12 in forward" in text
    assert "cause is at net.py:9 in forward" in text
    assert "python bisect/case1.py" in text


def test_search_that_found_nothing_says_so():
    text = console_table(report(Bisection(PAIR, 40, (), 1.5), passed=True))
    assert "40 intermediate values. No wrong node was found." in " ".join(text.split())


def test_search_that_was_not_possible_says_why():
    text = console_table(report(Bisection(PAIR, 0, (), problem="torch 1.4.0 cannot record")))
    assert "not compared: torch 1.4.0 cannot record." in " ".join(text.split())


def test_report_without_a_search_has_no_section_and_no_key():
    plain = report(None)
    assert bisect_section(plain) is None
    assert "bisection" not in report_value(plain)


def test_report_json_keeps_the_search():
    found = report(Bisection(PAIR, 40, (DIVERGENCE,), 1.5))
    assert report_of(report_value(found)).bisection == found.bisection


def test_command_is_offered_only_if_the_comparison_fails():
    assert bisect_command(report(None)) == "./run bisect --model net.py:make --trt rtx-1.7"
    assert bisect_command(report(None, passed=True)) is None
    assert bisect_command(report(Bisection(PAIR, 40, ()))) is None


def test_offered_command_has_only_options_of_bisect():
    command = "./run bench --model 'a b.py:make' --until onnx --top-n 5 --batch 1,8 --seconds 3"
    differing = report(None)._replace(command=command)
    assert bisect_command(differing) == "./run bisect --model 'a b.py:make' --top-n 5"


def test_onnx_file_is_for_bisect_alone(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"--onnx none\.onnx: file not found"):
        job_of(ConversionRequest(model="alexnet", onnx="none.onnx", bisect=True))
    with pytest.raises(UsageError, match="needs --bisect"):
        job_of(ConversionRequest(model="alexnet", onnx=str(file)))
    job = job_of(ConversionRequest(model="alexnet", onnx=str(file), bisect=True))
    assert job.placed().onnx == str(file)
    assert file in job.inputs()


def test_an_onnx_file_as_the_model_cannot_be_bisected(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match="nothing to compare it with"):
        job_of(ConversionRequest(model=str(file), bisect=True))


def test_tensorrt_is_not_compared_yet(monkeypatch):
    request = ConversionRequest(model="alexnet")
    monkeypatch.setattr("trtyard.run.bisect.has_cuda_device", lambda: False)
    with pytest.raises(EnvironmentLacksError, match="not run: no CUDA device"):
        bisect(request, "torch,tensorrt")
    monkeypatch.setattr("trtyard.run.bisect.has_cuda_device", lambda: True)
    with pytest.raises(UsageError, match="not supported yet"):
        bisect(request, "onnxruntime,tensorrt")
    with pytest.raises(UsageError, match="must be one of"):
        bisect(request, "torch,onnx")
