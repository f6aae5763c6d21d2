"""Which ops TensorRT takes, asked of the row's own. None of it needs a GPU."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from trtyard.core.cuda_device import first_device
from trtyard.core.errors import UsageError
from trtyard.known_failures.explanation import first_error
from trtyard.pipeline import cli
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_model import operator_check
from trtyard.pipeline.onnx_model.operator_check import REFUSED, TAKEN, UNKNOWN, check_model
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.logger import KeptLog

node = helper.make_node


def tensor(name, shape, of_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, of_type, shape)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a model of these parts and gives the file."""

    def write(nodes, inputs, outputs, constants=()):
        graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(constants))
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("me", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        file = tmp_path / "model.onnx"
        onnx.save(model, file)
        return file

    return write


@pytest.fixture
def troubled(written):
    """Return a file with three ops that TensorRT for RTX does not take, and others."""
    k = numpy_helper.from_array(np.array([3841]), "k")
    return written(
        [
            node("Relu", ["x"], ["r"], name="relu"),
            node("NonZero", ["r"], ["where"], name="nonzero"),
            node("TopK", ["r", "k"], ["values", "indices"], name="topk"),
            node("NonMaxSuppression", ["boxes", "scores"], ["kept"], name="nms"),
            node("Neg", ["r"], ["minus"], name="neg"),
        ],
        [tensor("x", [1, 5000]), tensor("boxes", [1, 9, 4]), tensor("scores", [1, 1, 9])],
        [
            tensor("where", None, TensorProto.INT64),
            tensor("values", None),
            tensor("kept", None, TensorProto.INT64),
            tensor("minus", None),
        ],
        [k],
    )


def failure_in(said):
    found = first_error(said)
    return found.failure.name if found else ""


def test_every_unsupported_op_is_found(troubled):
    whole, *kinds = check_model(troubled)
    assert (whole.state, whole.number) == (REFUSED, 5)
    assert {one.op: (one.state, failure_in(one.said)) for one in kinds} == {
        "Relu": (TAKEN, ""),
        "NonZero": (REFUSED, "nonzero"),
        "TopK": (REFUSED, "topk-limit"),
        "NonMaxSuppression": (REFUSED, "non-max-suppression"),
        "Neg": (TAKEN, ""),
    }
    assert [one.nodes[0]["node"] for one in kinds] == ["relu", "nonzero", "topk", "nms", "neg"]


def test_finds_ops_that_supports_operator_misses(troubled):
    log = KeptLog()
    parser = trt.OnnxParser(trt.Builder(log).create_network(0), log)
    said = {op: parser.supports_operator(op) for op in ("NonZero", "NonMaxSuppression")}
    assert said == {"NonZero": True, "NonMaxSuppression": True}
    refused = {one.op for one in check_model(troubled) if one.state == REFUSED}
    assert set(said) <= refused


class Masked(nn.Module):
    def forward(self, image):
        doubled = image * 2
        return doubled[doubled > 0.5]


def test_a_refused_node_has_its_python_line(tmp_path):
    file = tmp_path / "model.onnx"
    export_onnx(Masked().eval(), (torch.rand(3, 3),), ["x"], ["y"], "dynamo", 18, file)
    (nonzero,) = (one for one in check_model(file) if one.op == "NonZero")
    assert "return doubled[doubled > 0.5]" in nonzero.nodes[0]["origin"]


def test_supported_model_is_not_split(written):
    file = written([node("Relu", ["x"], ["y"])], [tensor("x", [4])], [tensor("y", [4])])
    (whole,) = check_model(file)
    assert (whole.state, whole.number, list(whole.ops)) == (TAKEN, 1, ["Relu"])


@pytest.mark.skipif(
    first_device() is not None,
    reason="this machine has a driver and a device",
)
def test_roi_align_support_is_unknown_without_driver(written):
    size = {"output_height": 7, "output_width": 7}
    file = written(
        [node("RoiAlign", ["x", "rois", "images"], ["y"], **size)],
        [tensor("x", [1, 8, 20, 20]), tensor("rois", [5, 4]), tensor("images", [5], 7)],
        [tensor("y", None)],
    )
    _, roi_align = check_model(file)
    assert (roi_align.op, roi_align.state) == ("RoiAlign", UNKNOWN)


def test_an_op_inside_an_if_is_found(written):
    then = helper.make_graph(
        [node("NonZero", ["x"], ["a"])], "then", [], [tensor("a", None, TensorProto.INT64)]
    )
    otherwise = helper.make_graph(
        [node("Shape", ["x"], ["s"]), node("Unsqueeze", ["s", "axis"], ["b"])],
        "else",
        [],
        [tensor("b", None, TensorProto.INT64)],
    )
    file = written(
        [node("If", ["c"], ["y"], name="branch", then_branch=then, else_branch=otherwise)],
        [tensor("x", [4]), tensor("c", [], TensorProto.BOOL)],
        [tensor("y", None, TensorProto.INT64)],
        [numpy_helper.from_array(np.array([0]), "axis")],
    )
    _, branch = check_model(file)
    assert (branch.op, branch.state) == ("If", REFUSED)
    assert "NonZero" in branch.ops


# In TensorRT's place: it cannot be made to end its process at a node of one's choice.
DYING = """
import json, os, signal, sys
for given in sys.argv[1:]:
    if given.endswith("1.onnx"):
        os.kill(os.getpid(), signal.SIGSEGV)
    print(json.dumps({"op": "", "state": "taken", "number": 0, "nodes": []}), flush=True)
"""


def test_node_that_kills_the_process_is_unsupported(monkeypatch, tmp_path):
    monkeypatch.setattr(operator_check, "_CHILD", [sys.executable, "-c", DYING])
    files = [tmp_path / f"{number}.onnx" for number in range(4)]
    answers = operator_check._asked(files)
    assert [one.state for one in answers] == [TAKEN, REFUSED, TAKEN, TAKEN]
    assert "ended the process (SIGSEGV)" in answers[1].said


def test_the_command_prints_json(troubled, tmp_path, capsys):
    row = {"name": "rtx-1.7", "tensorrt": "1.7.1.116", "flavour": "rtx", "exporter": "dynamo"}
    row.update(opset=18, cuda="13.0", architectures=["89"], runs_on=["8.9"])
    (tmp_path / "row.json").write_text(json.dumps(row))
    words = ["check-model", "--row-file", str(tmp_path / "row.json"), "--onnx", str(troubled)]
    assert cli.main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines].count(REFUSED) == 4


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(300, 300)

    def forward(self, x):
        return self.linear(x)


@pytest.fixture
def outside(tmp_path):
    """Return a file whose weights lie in another one beside it, and that one."""
    file = tmp_path / "model.onnx"
    export_onnx(Weighted().eval(), [torch.rand(1, 300)], ["x"], ["y"], "dynamo", 18, file)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="model.data")
    return file, tmp_path / "model.data"


def test_weights_in_another_file_are_read(outside):
    file, _ = outside
    (whole,) = check_model(file)
    assert whole.state == TAKEN


def test_weights_that_are_missing_or_cut_short_are_a_usage_error(outside):
    file, data = outside
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(UsageError, match=r"cannot be read from model\.data") as caught:
        list(check_model(file))
    assert caught.value.hint
    data.unlink()
    with pytest.raises(UsageError, match=r"which is missing: model\.data") as caught:
        list(check_model(file))
    assert str(file.parent) in caught.value.hint
