"""The search for the first wrong node with other rows' torch, onnx and ONNX Runtime."""

import json
import subprocess
import sys

import pytest

from trtyard.system.uv import ROOT

MODELS = ROOT / "tests/pipeline/bisect/models.py"


def bisected(row, call, out):
    """Return the exit code, and the search in report.json."""
    words = ["--model", f"{MODELS}:{call}", "--input", "1x3x16x16", "--trt", row, "--in", "host"]
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "trtyard"), "bisect", *words, "--out", str(out)],
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads((out / "report.json").read_text())["bisection"]


@pytest.mark.parametrize(
    ("fault", "name"),
    [("slice", "in-place-write-lost"), ("clamp", "boxes-outside"), ("constant", "value-frozen")],
)
def test_planted_fault_is_found_on_row_8_6(environment_of, fault, name, tmp_path):
    environment_of("8.6")
    code, found = bisected("8.6", f"detector(faults='{fault}')", tmp_path)
    assert code == 1
    assert [one["failure"] for one in found["divergences"]] == [name]
    assert "models.py:" in found["divergences"][0]["cause_origin"]


@pytest.mark.parametrize(
    ("call", "causes"),
    [
        ("indexed", {"taken": "negative-indices"}),
        ("rounded", {"divided": "rounded-toward-zero", "pooled": "average-pool-ceil"}),
    ],
)
def test_wrong_operators_of_row_8_6_are_named(environment_of, call, causes, tmp_path):
    environment_of("8.6")
    code, found = bisected("8.6", call, tmp_path)
    lines = MODELS.read_text(encoding="utf-8").splitlines()
    named = {}
    for one in found["divergences"]:
        number = int(one["origin"].split("models.py:")[1].split()[0])
        named[lines[number - 1].rpartition("# ")[2]] = one["failure"]
    assert code == 1
    assert named == causes


def test_correct_model_has_no_wrong_node_on_row_8_6(environment_of, tmp_path):
    environment_of("8.6")
    code, found = bisected("8.6", "detector()", tmp_path)
    assert code == 0
    assert found["divergences"] == []
    assert found["compared"] > 15


def test_row_7_0_says_why_it_cannot_search(environment_of, tmp_path):
    environment_of("7.0")
    code, found = bisected("7.0", "detector()", tmp_path)
    assert code in (0, 1)
    assert found["problem"] == "torch 1.4.0 cannot record its operators; torch 2 can"
