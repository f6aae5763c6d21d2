"""The example of "Add an op" in docs/plugins.md: exported and run, against torch."""

import pytest
from worked_example import blocks_of, copy_pipeline, run_in

BLOCKS = blocks_of("plugins.md", "Add an op")

IN_ONNXRUNTIME = """
import sys
from pathlib import Path

import numpy as np
import onnx
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.onnx_model.runner import run_onnx

exporter, opset = sys.argv[1], int(sys.argv[2])
model = load_model("net.py:make_net", input_shape="1x3x8x8")
names, outputs = model.input_names, model.output_names
file = Path("model.onnx")
exported = export_onnx(
    model.module, model.inputs, names, outputs, exporter, opset, file, may_be_invalid=opset < 16
)
assert exported.custom_ops == ("Scale2",)
assert exported.functions == (("Scale2",) if opset >= 16 else ())
found = onnx.load(str(file))
(node,) = [each for each in found.graph.node if each.domain == "trtyard"]
if opset < 16:
    onnx.save(in_standard_ops(found), str(file))
given = {name: value.numpy() for name, value in zip(names, model.inputs)}
(value,) = run_onnx(file, given, outputs).values()
expected = model.module(*model.inputs)
expected = (expected if hasattr(expected, "numpy") else expected[0]).detach().numpy()
assert expected.any()
np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
print(node.op_type, node.attribute[0].f)
"""

IN_TENSORRT = """
from pathlib import Path

from trtyard.pipeline.tensorrt.engine import build_engine

facts = build_engine(Path("model.onnx"), Path("model.engine"))
print(facts.bytes, facts.plugin_layers)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("op")
    copy_pipeline(folder)
    (folder / "trtyard/pipeline/ops/scale2_op").mkdir()
    (folder / "trtyard/pipeline/ops/scale2_op/__init__.py").touch()
    for name, code in BLOCKS.items():
        (folder / name).write_text(code, encoding="utf-8")
    return folder


def test_page_lists_every_part_of_an_op():
    folder = "trtyard/pipeline/ops/scale2_op"
    parts = ["contract", "reference", "torch_op", "onnx_function", "symbolic"]
    assert list(BLOCKS) == [*(f"{folder}/{part}.py" for part in parts), "net.py"]


@pytest.mark.parametrize(
    ("exporter", "opset"), [("torchscript", 11), ("torchscript", 16), ("dynamo", 18)]
)
def test_the_new_op_runs_in_onnxruntime_as_in_torch(folder, exporter, opset):
    assert run_in(folder, IN_ONNXRUNTIME, exporter, str(opset)) == "Scale2 0.5\n"


@pytest.mark.slow
def test_tensorrt_builds_the_new_ops_function_body(folder):
    run_in(folder, IN_ONNXRUNTIME, "dynamo", "18")
    size, plugins = run_in(folder, IN_TENSORRT).split(maxsplit=1)
    assert int(size) > 0
    assert plugins == "()\n"
