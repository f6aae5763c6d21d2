"""The CPU reference of MaskRcnnROIAlign, where it is more than torchvision's mean."""

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.ops import roi_align
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.roi_align_op import cuda
from trtyard.pipeline.ops.roi_align_op.contract import OP as ROI_ALIGN

ATTRIBUTES = {
    "output_height": 3,
    "output_width": 4,
    "spatial_scale": 0.25,
    "sampling_ratio": 2,
    "aligned": 0,
}


def case(count=9, channels=5):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(2, channels, 12, 15, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * 50 - 5
    rois = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 30], 1)
    return features, rois, torch.arange(count, dtype=torch.int32) % 3 - 1


@pytest.mark.parametrize("mode", [0, 1])
def test_channels_last_is_kept_with_equal_values(mode):
    features, rois, images = case()
    last = features.contiguous(memory_format=torch.channels_last)
    plain = roi_align(features, rois, images, *ATTRIBUTES.values(), mode)
    got = roi_align(last, rois, images, *ATTRIBUTES.values(), mode)
    assert plain.is_contiguous()
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, plain)


@pytest.mark.parametrize("mode", [0, 1])
def test_the_operator_is_whole(mode):
    features, rois, images = case()
    for given in (features, features.contiguous(memory_format=torch.channels_last)):
        operator = torch.ops.trtyard.roi_align.default
        torch.library.opcheck(operator, (given, rois, images, *ATTRIBUTES.values(), mode))


@pytest.mark.parametrize("ratio", [0, 2])
def test_features_have_torchvisions_gradients(ratio):
    features, rois, images = case()
    rois[4] *= 1e4  # larger than the map
    weights = torch.randn(9, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    real = images >= 0
    boxes = torch.cat([images[:, None].float(), rois], 1)[real]
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    rois.requires_grad_()  # as after a layer that computes them; it gets no gradient
    pooled = roi_align(ours, rois, images, **{**ATTRIBUTES, "sampling_ratio": ratio})
    (pooled * weights).sum().backward()
    expected = torchvision.ops.roi_align(theirs, boxes.detach(), (3, 4), 0.25, ratio or -1)
    (expected * weights[real]).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert rois.grad is None


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_the_changes_of_the_result(mode, memory_format):
    features, rois, images = case()
    features = features.contiguous(memory_format=memory_format).requires_grad_()
    way = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    arguments = rois, images, *ATTRIBUTES.values(), mode
    pooled = roi_align(features, *arguments)
    with torch.no_grad():
        torch.testing.assert_close(pooled, roi_align(features, *arguments), rtol=0, atol=0)
        step = 1e-3 * way
        change = roi_align(features + step, *arguments) - roi_align(features - step, *arguments)
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    expected = float((gradient * way).sum())
    assert float(change.sum()) / 2e-3 == pytest.approx(expected, rel=0.01)


def test_rois_alone_get_no_gradient():
    features, rois, images = case()
    pooled = roi_align(features, rois.requires_grad_(), images, **ATTRIBUTES)
    assert not pooled.requires_grad


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("count", [0, 9])
def test_no_rois_give_gradients_of_zeros(count, mode):
    features, rois, images = case()
    features.requires_grad_()
    padding = torch.full_like(images, -1)
    pooled = roi_align(features, rois[:count], padding[:count], *ATTRIBUTES.values(), mode)
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile's own
def test_compiled_training_has_gradients():
    features, rois, images = case()
    module = Pooled()
    (expected,) = torch.autograd.grad(module(features, rois, images).sum(), module.layer.weight)
    compiled = torch.compile(module, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(features, rois, images).sum(), module.layer.weight)
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_exporters_see_one_node_while_gradients_are_recorded():
    features, rois, images = case()
    module = Pooled()
    program = torch.export.export(module, (features, rois, images))
    operators = [str(node.target) for node in program.graph.nodes]
    assert "trtyard.roi_align.default" in operators
    traced = torch.jit.trace(module, (features, rois, images))
    kinds = [node.kind() for node in traced.inlined_graph.nodes()]
    assert "trtyard::roi_align" in kinds


class Pooled(torch.nn.Module):
    """Pools features of a layer with weights."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(5, 5, 1)

    def forward(self, features, rois, images):
        return roi_align(self.layer(features), rois, images, **ATTRIBUTES)


def test_max_mode_uses_weighted_corners():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    rois = torch.tensor([[1.0, 1.0, 2.0, 2.0]])  # one sample, between four cells: 5, 6, 9, 10
    (value,) = roi_align(features, rois, torch.zeros(1, dtype=torch.int32), 1, 1, 1.0, 1, 0, 1)
    assert value.item() == 10.0 / 4


def test_samples_outside_of_the_map_are_zeros_in_the_maximum():
    features = torch.full((1, 1, 4, 4), -3.0)
    rois = torch.tensor(
        [
            [0.3, 0.3, 2.3, 2.3],
            [0.3, 0.3, 40.0, 2.3],
            [90.0, 90.0, 95.0, 95.0],
            [0.3, 0.3, 7.3, 2.3],  # the samples of one column
        ]
    )
    images = torch.zeros(4, dtype=torch.int32)
    got = roi_align(features, rois, images, 1, 1, 1.0, 2, 1, 1).flatten().tolist()
    assert got[0] < 0
    assert got[1:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", [0, 1])
def test_the_body_of_opset_11_agrees(mode):
    features, rois, images = case()
    inputs = {"features": features.numpy(), "rois": rois.numpy(), "batch_indices": images.numpy()}
    node = helper.make_node(
        ROI_ALIGN.op_type, list(inputs), ["pooled"], domain=DOMAIN, **ATTRIBUTES, mode=mode
    )
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in inputs.items()
        ],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [9, 5, 3, 4])],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = in_standard_ops(helper.make_model(graph, opset_imports=opsets, ir_version=6))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, inputs)
    expected = roi_align(features, rois, images, *ATTRIBUTES.values(), mode).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rois": torch.zeros(9, 5)}, "takes features"),
        ({"batch_indices": torch.zeros(8, dtype=torch.int32)}, "takes features"),
        ({"features": torch.zeros(5, 12, 15)}, "takes features"),
        ({"features": torch.zeros(2, 5, 12, 15, dtype=torch.int64)}, "floating-point features"),
        ({"spatial_scale": float("nan")}, "must be finite"),
        ({"spatial_scale": 1e39}, "must be finite"),
        ({"sampling_ratio": -1}, "must not be negative"),
        ({"batch_indices": torch.zeros(9, dtype=torch.int32, device="meta")}, "one device"),
    ],
)
def test_the_kernel_never_gets_what_the_reference_refuses(changes, words, monkeypatch):
    monkeypatch.setattr(cuda, "library_for", lambda _: object())
    arguments = {**dict(zip(ROI_ALIGN.inputs, case())), **ATTRIBUTES, **changes}
    with pytest.raises(ValueError, match=words):
        cuda.roi_align_cuda(**arguments)
