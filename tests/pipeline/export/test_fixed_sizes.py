"""A traced file whose sizes are constants: as few nodes as from dynamo, and the same numbers."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from trtyard.pipeline.export.axes import Axes
from trtyard.pipeline.export.exporter import export_model
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.torch_support.versions import sizes_untraced

# What computes a size.
SIZES = {"Shape", "Constant", "ConstantOfShape", "Identity"}


class Sizes(torch.nn.Module):
    """Reads sizes in the ways that torchvision's detectors do."""

    has_fixed_sizes = True

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.GroupNorm(2, 4)

    def forward(self, x):
        x = functional.pad(x, (0, -x.shape[-1] % 8, 0, -x.size(2) % 8))
        fine = self.norm(x)
        coarse = functional.interpolate(fine[..., ::2], size=fine.shape[-2:])
        both = torch.cat([fine, coarse], 2).flatten(2)
        split = both.split([both.size(-1) // 2, both.size(dim=-1) // 2], dim=-1)
        return split[0].reshape(*both.shape[:1], -1) * split[1].flatten(1)


def exported(module, value, exporter="torchscript", axes=None):
    return export_model(module, [value], ["x"], ["y"], exporter, 18, axes)[0]


@pytest.fixture
def value():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 13, 10))).float()


def test_no_node_computes_a_size(value):
    fixed, dynamo = exported(Sizes(), value), exported(Sizes(), value, "dynamo")
    ops = Counter(node.op_type for node in fixed.graph.node)
    assert not SIZES & set(ops), ops
    assert len(fixed.graph.node) <= len(dynamo.graph.node)


def test_file_computes_what_the_module_does(value, tmp_path):
    module = Sizes().eval()
    file = tmp_path / "model.onnx"
    file.write_bytes(exported(module, value).SerializeToString())
    (found,) = run_onnx(file, {"x": value.numpy()}, ["y"]).values()
    np.testing.assert_allclose(found, module(value).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_every_node_keeps_its_line(value):
    origins = {origin_of(node) for node in exported(Sizes(), value).graph.node}
    assert all(origin.startswith(f"{Path(__file__)}:") for origin in origins), origins
    assert len(origins) > 3


def test_module_that_does_not_ask_keeps_its_sizes(value):
    module = Sizes()
    module.has_fixed_sizes = False
    assert "Shape" in {node.op_type for node in exported(module, value).graph.node}


def test_varying_axis_keeps_its_sizes(value):
    limits, one = {"batch": (1, 4)}, {"batch": 1}
    axes = Axes({"x": {0: "batch"}}, {"y": ["batch"]}, limits, steps=one, traced=one)
    found = exported(Sizes(), value, axes=axes)
    assert "Shape" in {node.op_type for node in found.graph.node}


def test_sizes_are_traced_again_after_an_error():
    own = torch.Tensor.size, torch.Tensor.shape
    with pytest.raises(IndexError), sizes_untraced():
        torch.ones(2, 3).size(2)
    assert (torch.Tensor.size, torch.Tensor.shape) == own
