"""Rows whose TensorRT is no PyPI package, up to ONNX, on a real interpreter of their Python.

What they take from PyPI is all that this needs: the very files that the lock names.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from old_python import UTF8
from own_exports import has_own_exports

from trtyard.known_failures.operators import NATIVE_FROM
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import make_environment
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

ROWS = [row for row in read_matrix(MATRIX_FILE).rows.values() if row.host_until == "onnx"]
OWN = [row for row in ROWS if has_own_exports(row.name)]  # tests/pipeline exports the others' files


def exported(words):
    """Run ``convert`` with these words on the host, up to ONNX."""
    command = [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), *words]
    command += ["--in", "host", "--until", "onnx"]
    env = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("model", ["alexnet", "faster_rcnn"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_row_exports_and_onnxruntime_agrees_with_torch(environment_of, row, model, tmp_path):
    environment_of(row.name)
    # A folder that is named there keeps the reports: ./run verified reads them.
    out = Path(os.environ.get("TRTYARD_REPORTS") or tmp_path) / row.name / model
    words = ["convert", "--trt", row.name, "--model", model, "--out", str(out)]
    done = exported(words)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    status = {stage["name"]: stage["status"] for stage in report["stages"]}
    assert status["export"] == status["onnxruntime"] == "passed"
    assert status["engine"] == status["tensorrt"] == "not-run"
    assert report["parity"]
    assert all(each["passed"] for each in report["parity"])
    assert report["versions"]["torch"].partition("+")[0] == row.packages["torch"]
    assert ".".join(report["versions"]["python"].split(".")[:2]) in row.host_pythons
    if model == "faster_rcnn":
        (found,) = report["detections"]
        assert found["matched"] == found["reference"] > 0
        assert found["labels_equal"] == found["matched"]
        assert open_sizes(out / "model.onnx", row) == []
    if row.flavour == "full":
        assert later_than(row.tensorrt, ops_in(out / "model.onnx", row)) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet18", ["--input", "1..4x3x64x64"]),
        ("faster_rcnn", ["--input", "1..2x3x96x128", "--top-n", "20"]),
    ],
)
@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_the_batch_can_vary(environment_of, row, model, words, tmp_path):
    environment_of(row.name)
    command = ["convert", "--trt", row.name, "--model", model, "--out", str(tmp_path), *words]
    done = exported(command)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["sizes"]) >= 2
    assert all(each["passed"] for each in report["sizes"])


def ops_in(file, row):
    """Return the op types of an ONNX file's graph, as the row's own onnx reads it."""
    ops = words_of("print(*{node.op_type for node in graph.node})", file, row)
    assert "Conv" in ops
    return ops


def open_sizes(file, row):
    """Return the tensors of the file's graph that it does not give a size for each dimension."""
    script = """
for value in [*graph.input, *graph.value_info, *graph.output]:
    if not all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim):
        print(value.name)
"""
    return words_of(script, file, row)


def words_of(script, file, row):
    """Return the words that ``script`` prints of an ONNX file's ``graph``."""
    python = make_environment(row, read_lock(LOCK_FILE).row(row.name)).python
    script = f"import onnx, sys; graph = onnx.load(sys.argv[1]).graph\n{script}"
    done = subprocess.run([python, "-I", "-c", script, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def later_than(tensorrt, ops):
    """Return those of ``ops`` that TensorRT's parser takes only from a later release on."""
    release = numbers(tensorrt)
    return sorted(op for op in ops if numbers(NATIVE_FROM.get(op, "0")) > release)


def numbers(release):
    return tuple(map(int, release.split(".")))


NET = """
import torch


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.relu(self.conv(x))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        x = self.block(x)
        return x.flatten(1).topk(2)[0]


def make():
    return Net()
"""
LINES = {"Conv": "self.conv(x)", "Relu": "torch.relu", "TopK": "topk(2)"}
LOOK = """
import sys, onnx, json
from trtyard.pipeline.onnx_model.origin import origin_of
model = onnx.load(sys.argv[1])
found = {node.op_type: origin_of(node) for node in model.graph.node}
docs = sum(len(node.doc_string) for node in model.graph.node)
print(json.dumps({"origins": found, "docs": docs, "nodes": len(model.graph.node)}))
"""
PATCHED = [row for row in ROWS if row.parser == "patched"]


def converted(row, net, out):
    """Take the model in the file ``net`` up to ONNX; return the finished process."""
    words = ["convert", "--trt", row.name, "--model", f"{net}:make", "--input", "1x3x8x8"]
    return exported([*words, "--out", str(out)])


@pytest.mark.parametrize("row", PATCHED, ids=lambda row: row.name)
def test_a_file_for_a_patched_parser_names_the_users_lines(environment_of, row, tmp_path):
    # The parser's patch errors-with-origin has nothing else to name them by.
    python = environment_of(row.name).python
    net = tmp_path / "net.py"
    net.write_text(NET)
    done = converted(row, net, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    looked = subprocess.run(
        [python, "-c", LOOK, tmp_path / "out" / "model.onnx"],
        env={"PYTHONPATH": str(ROOT), "PATH": "", **UTF8},
        capture_output=True,
        text=True,
    )
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout)
    source = NET.splitlines()
    for op, words in LINES.items():
        line = next(number for number, text in enumerate(source, 1) if words in text)
        assert found["origins"][op] == f"{net}:{line} in forward"
    assert found["docs"] <= found["nodes"] * (len(str(net)) + 20)


@pytest.mark.parametrize("row", PATCHED, ids=lambda row: row.name)
def test_an_op_without_onnx_form_is_named_with_the_users_line(environment_of, row, tmp_path):
    # The TorchScript exporter's own error has the op at most.
    environment_of(row.name)
    net = tmp_path / "net.py"
    net.write_text(NET.replace("x.flatten(1).topk(2)[0]", "torch.histc(x)"))
    done = converted(row, net, tmp_path / "out")
    assert done.returncode == 4, done.stdout + done.stderr
    line = net.read_text().splitlines().index("        return torch.histc(x)") + 1
    assert "op: aten::histc" in done.stderr
    assert f"at {net}:{line} in forward: return torch.histc(x)" in done.stderr
    assert "why: ONNX has no form of this op" in done.stderr


@pytest.mark.parametrize("row", PATCHED, ids=lambda row: row.name)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("return Net()", "return torch.jit.trace(Block(), torch.zeros(1, 3, 8, 8))"), 0),
        # Frozen by tracing, and the same for a mirrored input.
        (("x.flatten(1).topk(2)[0]", "x / float(x.abs().max())"), 1),
        (("x = self.block(x)", "x = x * 2 if x.mean() > 0 else x * 3"), 1),
    ],
    ids=["torchscript", "largest", "branch"],
)
def test_own_model_passes_only_if_the_file_is_right(environment_of, row, change, code, tmp_path):
    environment_of(row.name)
    net = tmp_path / "net.py"
    net.write_text(NET.replace(*change))
    done = converted(row, net, tmp_path / "out")
    assert done.returncode == code, done.stdout + done.stderr
    assert ("results-frozen" in " ".join(done.stdout.split())) == (code == 1)
