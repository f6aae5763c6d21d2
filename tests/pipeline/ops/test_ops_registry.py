"""The ops' folders: what each holds, and that contracts and shells need no torch."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trtyard.pipeline import ops
from trtyard.pipeline.ops.registry import OPS, WITH_PLUGIN, part, torch_op

ROOT = Path(__file__).resolve().parents[3]

WITHOUT_TORCH = """
import sys

for name in ("torch", "torchvision", "onnx", "onnxruntime"):
    sys.modules[name] = None
import trtyard.pipeline.run_engine
from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.ops.registry import OP_TYPES
from trtyard.pipeline.tensorrt.drivers import this_driver
from trtyard.pipeline.tensorrt.shells import RegisteredShells

with RegisteredShells():
    print(type(this_driver()).__name__, OP_TYPES)
"""

BEFORE_TORCH_2_4 = """
import io
import warnings

import onnx
import torch
from trtyard.pipeline.torch_support import versions

versions.HAS_CUSTOM_OP = False
from trtyard.pipeline.ops import multiscale_roi_align, padded_nms, roi_align
from trtyard.pipeline.ops.padded_nms_op.reference import padded_nms_reference
from trtyard.pipeline.ops.roi_align_op.reference import roi_align_reference


class All(torch.nn.Module):
    def forward(self, boxes, scores, features):
        indices, count = padded_nms(boxes, scores, 0.5, 0.1, keep_top_k=7, box_offset=1)
        images = torch.zeros(5, dtype=torch.int32)
        pooled = roi_align(features, boxes[0, 0, :5], images, 3, 2, 0.5, 2, 0)
        maps = [features, features[:, :, ::2, ::2]]
        of_levels = multiscale_roi_align(maps, boxes[0, 0, :5], images, (3, 2), (0.5, 0.25), 2)
        return indices, count, pooled, of_levels


torch.manual_seed(0)
corner = torch.rand(1, 1, 20, 2) * 50
boxes = torch.cat([corner, corner + 20], -1)
inputs = boxes, torch.rand(1, 2, 20), torch.rand(1, 4, 30, 30)
indices, count, pooled, of_levels = All()(*inputs)
expected = padded_nms_reference(boxes, inputs[1], 0.5, 0.1, 7, 1)
assert torch.equal(indices, expected[0]) and torch.equal(count, expected[1])
images = torch.zeros(5, dtype=torch.int32)
assert torch.equal(pooled, roi_align_reference(inputs[2], boxes[0, 0, :5], images, 3, 2, 0.5, 2, 0))
assert torch.equal(of_levels, pooled)  # the rois are small

written = io.BytesIO()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(
        All(), inputs, written, opset_version=16, dynamo=False, custom_opsets={"trtyard": 1}
    )
model = onnx.load_from_string(written.getvalue())
print([(node.op_type, len(node.output)) for node in model.graph.node if node.domain == "trtyard"])
print([[size.dim_value for size in each.type.tensor_type.shape.dim] for each in model.graph.output])
"""


def run(script):
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_reference_and_op_follow_the_contract(op):
    reference = getattr(part(op, "reference"), f"{op.name}_reference")
    expected = list(op.signature().parameters.values())
    found = list(inspect.signature(reference).parameters.values())
    assert [one.name for one in found] == [one.name for one in expected]
    assert [one.default for one in found] == [one.default for one in expected]
    torch_op(op.name)  # makes it one of torch.ops
    schema = getattr(torch.ops.trtyard, op.name).default._schema
    assert [one.name for one in schema.arguments] == [one.name for one in expected]
    assert len(schema.returns) == len(op.outputs) == len(op.output_types)
    assert len(op.inputs) == len(op.input_types)


@pytest.mark.parametrize("op", WITH_PLUGIN, ids=lambda op: op.name)
def test_an_op_with_a_plugin_has_kernel_and_shell(op):
    assert f"trtyard_{op.name}" in part(op, "kernel").SIGNATURES
    assert part(op, "shell").Plugin.op == op


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_package_exports_function_after_all_imports(op):
    for name in ("contract", "reference", "torch_op", "onnx_function", "symbolic"):
        part(op, name)
    assert getattr(ops, op.name) is torch_op(op.name)


def test_unknown_op_is_an_import_error():
    with pytest.raises(ImportError):
        from trtyard.pipeline.ops import no_such_op  # noqa: F401


def test_contracts_import_without_torch_and_onnx():
    assert run(WITHOUT_TORCH) == [
        "DriverRtx ('MultiscaleRoIAlign', 'PaddedNMS', 'MaskRcnnROIAlign')"
    ]


def test_before_torch_2_4_ops_are_autograd_functions():
    assert run(BEFORE_TORCH_2_4) == [
        "[('PaddedNMS', 2), ('MaskRcnnROIAlign', 1), ('MultiscaleRoIAlign', 1)]",
        "[[1, 7], [1], [5, 4, 3, 2], [5, 4, 3, 2]]",
    ]
