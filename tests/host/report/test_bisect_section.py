"""Where two runtimes diverge, on the page and on the terminal."""

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.report import (
    NOT_RUN,
    PASSED,
    STAGES,
    Bisection,
    Divergence,
    EngineSearch,
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


def test_onnx_file_is_compared_with_tensorrt(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"x")
    request = ConversionRequest(model=str(file), bisect=True, between="onnxruntime,tensorrt")
    assert job_of(request).request.searches("onnxruntime,tensorrt")
    with pytest.raises(UsageError, match="nothing to compare it with"):
        job_of(request.replaced(between="torch,tensorrt"))


@pytest.mark.parametrize(
    ("between", "until", "searches"),
    [
        (None, "onnx", {"torch,onnxruntime"}),
        ("torch,onnxruntime", "onnx", {"torch,onnxruntime"}),
        ("onnxruntime,tensorrt", "engine", {"onnxruntime,tensorrt"}),
        ("torch,tensorrt", "engine", {"torch,onnxruntime", "onnxruntime,tensorrt"}),
    ],
)
def test_runtimes_decide_the_searches_and_the_last_stage(monkeypatch, between, until, searches):
    asked = []
    monkeypatch.setattr("trtyard.run.bisect.convert", lambda request, **_: asked.append(request))
    bisect(ConversionRequest(model="alexnet", between=between))
    assert asked[0].until == until
    pairs = ("torch,onnxruntime", "onnxruntime,tensorrt")
    assert {pair for pair in pairs if asked[0].searches(pair)} == searches


def test_between_is_for_bisect_and_known_runtimes():
    with pytest.raises(UsageError, match="--between needs --bisect"):
        job_of(ConversionRequest(model="alexnet", between="torch,tensorrt"))
    with pytest.raises(UsageError, match="one of torch,onnxruntime; onnxruntime,tensorrt; torch,t"):
        ConversionRequest.from_words({"model": "alexnet", "between": "torch,onnx"})


def engine_search(**changes):
    one = DIVERGENCE._replace(failure="", detail="TensorRT computes another value", case=())
    found = Bisection(("onnxruntime", "tensorrt"), 12, (one,), 4.0)
    facts = {
        "builds": 3, "inputs_error": 0.0, "persists": True, "layers": ("kernel (/Mul, /Add)",),
        "fused": ("kernel (/Mul, /Add)",), "unfused": ("first (/Mul)", "second (/Add)"),
    }  # fmt: skip
    return EngineSearch(found, **{**facts, **changes})


def shown(search):
    both = report(None, passed=True)._replace(engine_search=search)
    return page(both), " ".join(console_table(both).split())


def test_engines_first_wrong_value_is_shown_with_its_layers():
    for text in shown(engine_search()):
        assert "ONNX Runtime and TensorRT were compared at 12 intermediate values. 1 node" in text
        assert "3 of 32 values differ; its inputs differ by 0 of their largest value" in text
        assert "ONNX Runtime has 0.5, TensorRT 0.75" in text
        assert "layers of the engine that compute it: kernel (/Mul, /Add)" in text
        assert "kernel (/Mul, /Add). With it they are: first (/Mul); second (/Add)" in text
        assert "the value is wrong too if it is the only one that is marked" in text
        assert "PyTorch's own inputs" not in text


def test_fault_that_marks_hide_is_shown():
    for text in shown(engine_search(persists=False, hidden_by=("a", "b"))):
        assert "the outputs are right if one of these values is marked: a and b" in text
        assert "are right if it is the only one that is marked" in text


def test_engine_that_was_not_compared_or_agrees_says_so():
    pair = ("onnxruntime", "tensorrt")
    reason = "not run: no CUDA device on this machine"
    for text in shown(EngineSearch(Bisection(pair, 0, (), problem=reason))):
        assert "Intermediate values of TensorRT were not compared: not run: no CUDA device" in text
    for text in shown(EngineSearch(Bisection(pair, 0, ()))):
        assert "The outputs of ONNX Runtime and TensorRT agree" in text


def test_report_json_keeps_the_engines_search():
    found = report(None)._replace(engine_search=engine_search())
    assert report_of(report_value(found)).engine_search == found.engine_search
    assert "engine_search" not in report_value(report(None))


def test_command_for_tensorrt_is_offered_if_it_alone_differs():
    (row,) = report(None).parity
    wrong = row._replace(pair=("onnxruntime", "tensorrt"))
    right = row._replace(passed=True)
    differs = report(None)._replace(parity=(right, wrong))
    command = "./run bisect --model net.py:make --trt rtx-1.7"
    assert bisect_command(differs) == f"{command} --between onnxruntime,tensorrt"
    assert bisect_command(differs._replace(parity=(row, wrong))) == command
    assert bisect_command(differs._replace(engine_search=engine_search())) is None


def test_offered_command_leaves_out_the_last_search():
    command = "./run convert --model 'net.py:make(3)' --until onnx --bisect --between a,b --size 8"
    given = report(None)._replace(command=command)
    assert bisect_command(given) == "./run bisect --model 'net.py:make(3)' --size 8"
