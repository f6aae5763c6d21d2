"""Which layers cost a reduced precision its accuracy, and which have to stay in fp32."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torch.utils._python_dispatch", reason="this torch cannot record operators")

from trtyard.core.report import exit_code
from trtyard.core.request import ConversionRequest
from trtyard.pipeline.bisect.keep_search import shortest_list
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.row import Row

SOURCE = Path(__file__).parent / "models.py"
DYNAMO = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
TORCHSCRIPT = DYNAMO._replace(exporter="torchscript", opset=17)
PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


def bisected(out, call, shape, row=TORCHSCRIPT, **options):
    """Return the report of a conversion up to ONNX, with a search."""
    request = ConversionRequest(
        model=f"{SOURCE}:{call}", input=shape, until="onnx", bisect=True, **options
    )
    return convert(row, request, Surroundings("host", out, PLUGINS, None))


@pytest.mark.parametrize("row", [DYNAMO, TORCHSCRIPT], ids=["dynamo", "torchscript"])
def test_overflow_in_one_of_thirty_layers_is_found(tmp_path, row):
    report = bisected(tmp_path, "thirty()", "1x8x8x8", row, precision="fp16")
    (found,) = report.bisection.precisions
    assert not found.within_budget
    first, second = found.layers[:2]
    assert first.op == "Conv"
    assert first.overflows > 0
    assert second.overflows == 0
    assert len(found.keep) == 2
    assert found.keep[0] == first.node
    assert found.nodes > 30
    again = bisected(
        tmp_path, "thirty()", "1x8x8x8", row, precision="fp16", keep_fp32=",".join(found.keep)
    )
    assert exit_code(again) == 0
    (kept,) = again.bisection.precisions
    assert kept.within_budget
    assert kept.keep == ()


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_layers_are_ranked_within_the_budget_too(tmp_path, precision):
    data = tmp_path / "samples.npz"
    torch.manual_seed(0)
    np.savez(str(data), input=torch.rand(16, 3, 16, 16).numpy())
    row = TORCHSCRIPT if precision == "int8" else DYNAMO._replace(opset=22)
    options = {"calibrate": str(data)} if precision == "int8" else {}
    report = bisected(tmp_path / "out", "ops()", "1x3x16x16", row, precision=precision, **options)
    (found,) = report.bisection.precisions
    assert found.problem is None
    errors = [one.error for one in found.layers]
    assert errors == sorted(errors, reverse=True)
    assert {"Conv", "Gemm"} & {one.op for one in found.layers}


def test_correct_conversion_says_that_nothing_was_found(tmp_path):
    report = bisected(tmp_path, "detector()", "1x3x16x16")
    assert report.bisection.problem is None
    assert report.bisection.divergences == ()
    assert report.bisection.compared > 15
    assert exit_code(report) == 0


def test_cases_of_an_earlier_search_are_removed(tmp_path):
    bisected(tmp_path, "detector(faults='slice')", "1x3x16x16")
    assert (tmp_path / "bisect/case1.py").is_file()
    bisected(tmp_path, "detector()", "1x3x16x16")
    assert not (tmp_path / "bisect/case1.py").exists()


@pytest.mark.parametrize(
    ("needed", "kept"), [({"a"}, ["a"]), ({"c"}, ["c"]), ({"b", "e"}, ["b", "e"]), ({"z"}, None)]
)
def test_list_is_the_shortest_of_the_ranked(needed, kept):
    trials = []

    def passes(names):
        trials.append(list(names))
        return needed <= set(names)

    assert shortest_list(list("abcdefgh"), passes) == kept
    assert len(trials) <= 12
