"""Einsum's equations with small letters mean what they meant with capitals."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from trtyard.pipeline.export.equations import in_small_letters, use_small_letters
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.tensorrt.engine import build_engine


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("ij,jk->ik", "ij,jk->ik"),
        ("IJ,JK->IK", "ab,bc->ac"),
        ("Bi,ij->Bj", "ab,bc->ac"),  # i is one letter, I would be another
        ("Ii,iI", "ab,ba"),
        ("...I,I->...", "...a,a->..."),
        ("B G H I D, B G H J D -> B G H I J", "a b c d e, a b c f e -> a b c d f"),
    ],
)
def test_letters_are_renamed_consistently(equation, expected):
    assert in_small_letters(equation) == expected


def test_more_letters_than_there_are_small_ones_stay():
    equation = "abcdefghijklmnopqrstuvwxyzA->A"
    assert in_small_letters(equation) == equation


def test_equations_in_the_branches_of_an_if_are_renamed_too():
    node = helper.make_node("Einsum", ["x", "x"], ["y"], equation="IJ,KJ->IK")
    branch = helper.make_graph([node], "branch", [], [])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    value = helper.make_tensor_value_info
    graph = helper.make_graph([chosen], "whole", [value("c", TensorProto.BOOL, [])], [])
    use_small_letters(graph)
    equations = [
        attribute.g.node[0].attribute[0].s.decode() for attribute in graph.node[0].attribute
    ]
    assert equations == ["ab,cb->ac"] * 2


class Attention(nn.Module):
    """Written as torchvision's MaxViT writes it."""

    def forward(self, q, k):
        return torch.einsum("B G H I D, B G H J D -> B G H I J", q, k)


@pytest.mark.parametrize(("exporter", "opset"), [("dynamo", 18), ("torchscript", 17)])
def test_exported_equation_works_in_tensorrt_and_onnxruntime(exporter, opset, tmp_path):
    file = tmp_path / "model.onnx"
    inputs = [torch.rand(2, 3, 2, 4, 5), torch.rand(2, 3, 2, 6, 5)]
    module = Attention().eval()
    export_onnx(module, inputs, ["q", "k"], ["scores"], exporter, opset, file)
    assert "Einsum" in {node.op_type for node in onnx.load(str(file)).graph.node}
    found = run_onnx(file, {"q": inputs[0].numpy(), "k": inputs[1].numpy()}, ["scores"])
    np.testing.assert_allclose(found["scores"], module(*inputs).numpy(), rtol=1e-5)
    assert build_engine(file, tmp_path / "model.engine").layers > 0
