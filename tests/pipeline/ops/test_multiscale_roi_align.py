"""MultiscaleRoIAlign on the CPU: all forms against each other and torchvision's module.

The forms are the reference behind the torch operator, the function with RoiAlign in it (opset 16
and 21) and without (22), and the nodes that take the op's place at opset 11.
"""

from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
import torchvision
from one_node import one_node_model, run_in_onnxruntime, run_model
from onnx import TensorProto, helper
from torchvision.ops.poolers import LevelMapper

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.ops import multiscale_roi_align
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.multiscale_roi_align_op import cuda
from trtyard.pipeline.ops.multiscale_roi_align_op.contract import OP
from trtyard.pipeline.ops.multiscale_roi_align_op.levels import smallest_area
from trtyard.pipeline.ops.multiscale_roi_align_op.reference import levels_of

INF, NAN = float("inf"), float("nan")
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
PICTURE = (256, 320)
BINS = (3, 2)
OUTPUT = [(TensorProto.FLOAT, 4)]


def pyramid(levels, batch=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, channels, *(int(side * scale) for side in PICTURE), generator=generator)
        for scale in SCALES[:levels]
    ]


def random_rois(count, seed=0):
    """Return rois of all levels, and their images; every fifth is padding."""
    generator = torch.Generator().manual_seed(seed)
    side = 2 ** (torch.rand(count, 1, generator=generator) * 7 + 4)
    sides = side * (torch.rand(count, 2, generator=generator) + 0.5)
    corner = torch.rand(count, 2, generator=generator) * 250 - 20
    images = torch.arange(count, dtype=torch.int32) % 5 % 3 - 1
    return torch.cat([corner, corner + sides], 1), images


def attributes_of(levels, **changes):
    scales = (*SCALES[:levels], *[0.0] * (5 - levels))
    named = {f"scale_{level}": scale for level, scale in enumerate(scales)}
    return {
        "output_height": BINS[0],
        "output_width": BINS[1],
        "sampling_ratio": 2,
        "aligned": 0,
        "canonical_scale": 224,
        "canonical_level": 4,
        **named,
        **changes,
    }


def of_five(maps):
    return [*maps, *[maps[-1]] * (5 - len(maps))]


def by_torchvision(maps, rois, images, bins, ratio, canonical_scale=224, canonical_level=4):
    """Return the result of torchvision's module for the rois of each image, zeros for others."""
    pool = torchvision.ops.MultiScaleRoIAlign(
        [str(level) for level in range(len(maps))],
        bins,
        ratio,
        canonical_scale=canonical_scale,
        canonical_level=canonical_level,
    )
    named = OrderedDict((str(level), each) for level, each in enumerate(maps))
    batch = len(maps[0])
    boxes = [rois[images == image] for image in range(batch)]
    pooled = torch.zeros(len(rois), maps[0].shape[1], *bins)
    ordered = torch.cat([(images == image).nonzero().flatten() for image in range(batch)])
    pooled[ordered] = pool(named, boxes, [PICTURE] * batch)
    return pooled


def by_function(maps, rois, images, attributes, opset):
    inputs = [each.numpy() for each in (*of_five(maps), rois, images)]
    return run_in_onnxruntime(OP.op_type, inputs, OUTPUT, opset, **attributes)[0]


def by_nodes(maps, rois, images, attributes):
    inputs = dict(zip(OP.inputs, (each.numpy() for each in (*of_five(maps), rois, images))))
    node = helper.make_node(OP.op_type, list(inputs), ["pooled"], domain=DOMAIN, **attributes)
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in inputs.items()
    ]
    result = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [None] * 4)
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    graph = helper.make_graph([node], "one_node", values, [result])
    model = in_standard_ops(helper.make_model(graph, opset_imports=opsets, ir_version=6))
    onnx.checker.check_model(model, full_check=True)
    return run_model(model, list(inputs.values()))[0]


def by_all(maps, rois, images, **changes):
    """Return what all forms agree on."""
    attributes = attributes_of(len(maps), **changes)
    expected = torch.ops.trtyard.multiscale_roi_align(
        *of_five(maps), rois, images, *attributes.values()
    )
    forms = [by_function(maps, rois, images, attributes, opset) for opset in (16, 21, 22)]
    for form in (*forms, by_nodes(maps, rois, images, attributes)):
        np.testing.assert_allclose(form, expected.numpy(), rtol=1e-4, atol=1e-5)
    return expected


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
@pytest.mark.parametrize("ratio", [0, 2])
def test_all_forms_equal_torchvision_for_each_number_of_levels(levels, ratio):
    maps, (rois, images) = pyramid(levels), random_rois(60)
    assert levels_of(rois, SCALES[:levels], 224, 4).unique().tolist() == list(range(levels))
    pooled = by_all(maps, rois, images, sampling_ratio=ratio)
    expected = by_torchvision(maps, rois, images, BINS, ratio)
    # Rois much larger than their map are summed in another order.
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-7)
    called = multiscale_roi_align(maps, rois, images, BINS, SCALES[:levels], ratio)
    assert torch.equal(called, pooled)


@pytest.mark.parametrize(("scale", "level"), [(224, 4), (300, 5), (64, 2), (1, 0)])
def test_other_canonical_sizes_equal_torchvision(scale, level):
    maps, (rois, images) = pyramid(4), random_rois(60, seed=level)
    pooled = by_all(maps, rois, images, canonical_scale=scale, canonical_level=level)
    assert torch.equal(pooled, by_torchvision(maps, rois, images, BINS, 2, scale, level))


def test_aligned_rois_differ_and_all_forms_agree():
    maps, (rois, images) = pyramid(3), random_rois(40)
    assert not torch.equal(by_all(maps, rois, images, aligned=1), by_all(maps, rois, images))


@pytest.mark.parametrize("canonical_level", [-1, 0, 2, 4, 6])
@pytest.mark.parametrize("canonical_scale", [1, 100, 224, 333])
def test_levels_at_every_float_around_a_border_are_torchvisions(canonical_scale, canonical_level):
    mapper = LevelMapper(1, 7, canonical_scale, canonical_level)
    scales = [2.0**-1, 2.0**-7]
    for level in range(1, 9):
        border = smallest_area(level, canonical_scale, canonical_level)
        bits = border.view(np.int32) + np.arange(-300, 301, dtype=np.int32)
        sides = torch.from_numpy(bits.astype(np.int32).view(np.float32).copy())
        zeros = torch.zeros_like(sides)
        rois = torch.stack([zeros, zeros, sides, zeros + 1], 1)
        expected = mapper([rois])
        assert torch.equal(levels_of(rois, scales, canonical_scale, canonical_level), expected)
        by_area = sum(
            (sides >= float(smallest_area(each, canonical_scale, canonical_level))).long()
            for each in range(2, 8)
        )
        # torch's square root on the CPU is not always the nearest float.
        is_exact = sides.sqrt() == sides.double().sqrt().float()
        assert is_exact.sum() > 300
        assert torch.equal(by_area[is_exact], expected[is_exact])


def test_rois_at_the_borders_get_one_level_in_all_forms():
    sides = torch.tensor([56.0, 112.0, 224.0, 448.0, 896.0])
    corners = torch.cat([sides, sides * (1 - 3e-7), sides * (1 - 3e-6), sides * (1 + 3e-7)])
    rois = torch.stack([0 * corners, 0 * corners, corners, corners], 1)
    maps = [torch.full((1, 1, 240 >> level, 240 >> level), level + 1.0) for level in range(4)]
    pooled = by_all(maps, rois, torch.zeros(len(rois), dtype=torch.int32))
    levels = LevelMapper(2, 5)([rois])
    torch.testing.assert_close(pooled[:, 0, 0, 0], levels.float() + 1)
    assert levels.tolist() == [0, 1, 2, 3, 3] * 2 + [0, 0, 1, 2, 3] + [0, 1, 2, 3, 3]


def test_degenerate_rois_are_pooled_as_torchvision_does():
    rois = torch.tensor(
        [
            [30.0, 30.0, 30.0, 30.0],  # no area
            [30.0, 30.0, 30.0, 200.0],
            [100.0, 90.0, 40.0, 30.0],  # inverted on both axes
            [100.0, 30.0, 40.0, 90.0],  # inverted on one axis: no level
            [30.0, 90.0, 40.0, 30.0],
            [-400.0, -300.0, 500.0, 450.0],
            [5000.0, 5000.0, 5100.0, 5100.0],
        ]
    )
    images = torch.zeros(len(rois), dtype=torch.int32)
    maps = pyramid(4, batch=1)
    pooled = by_all(maps, rois, images)
    expected = by_torchvision(maps, rois, images, BINS, 2)
    # Rois much larger than their map are summed in another order.
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-7)
    assert [bool(each.any()) for each in pooled] == [True, True, True, False, False, True, False]


def test_infinite_and_missing_corners_are_padding():
    rois = torch.tensor(
        [
            [0, 0, INF, 5],
            [-INF, -INF, INF, INF],
            [0, NAN, 5, 5],
            [NAN, NAN, NAN, NAN],
            [0, 0, 3e38, 3e38],
            [-3e38, 0, 3e38, 0],
            [0, 0, 1e20, 1e20],
            [0, 0, 50, 50],
        ]
    )
    pooled = by_all(pyramid(4), rois, torch.ones(len(rois), dtype=torch.int32))
    assert [bool(each.any()) for each in pooled] == [False] * 7 + [True]


def test_scales_that_skip_a_level_leave_coarse_rois_without_map():
    maps, (rois, images) = [pyramid(5)[level] for level in (0, 2)], random_rois(60)
    changes = {"scale_0": SCALES[0], "scale_1": SCALES[2]}
    pooled = by_all(maps, rois, images, **changes)
    assert torch.equal(pooled, by_torchvision(maps, rois, images, BINS, 2))
    levels = levels_of(rois, (SCALES[0], SCALES[2]), 224, 4)
    assert not pooled[levels == 2].any()


@pytest.mark.parametrize("count", [0, 1])
def test_no_rois_and_one_roi(count):
    maps, (rois, images) = pyramid(3), random_rois(1)
    pooled = by_all(maps, rois[:count], images[:count].abs())
    assert pooled.shape == (count, 3, *BINS)
    assert pooled.any() == (count == 1)


def test_only_padding_and_empty_levels_give_zeros():
    maps, (rois, _) = pyramid(3), random_rois(8)
    assert not by_all(maps, rois, torch.full((8,), -1, dtype=torch.int32)).any()
    small = torch.tensor([[3.0, 3.0, 20.0, 20.0]]).repeat(8, 1)
    assert by_all(maps, small, torch.zeros(8, dtype=torch.int32)).any()


TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
}


@pytest.mark.parametrize("opset", [16, 21, 23])
@pytest.mark.parametrize("dtype", TYPES)
def test_function_accepts_every_type(dtype, opset):
    maps, (rois, images) = pyramid(3), random_rois(20)
    expected = multiscale_roi_align(
        [each.to(dtype) for each in maps], rois, images, BINS, SCALES[:3], 2
    )
    (actual,) = run_in_onnxruntime(
        OP.op_type,
        [each.numpy() for each in (*of_five(maps), rois, images)],
        OUTPUT,
        opset,
        element_type=TYPES[dtype],
        of_element=5,
        **attributes_of(3),
    )
    assert expected.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    np.testing.assert_allclose(actual, expected.float().numpy(), rtol=tolerance, atol=1e-5)


def test_function_has_defaults_for_absent_levels():
    maps, (rois, images) = pyramid(2), random_rois(20)
    attributes = {
        name: value for name, value in attributes_of(2).items() if name not in OP.optional
    }
    model = one_node_model(
        OP.op_type, [each.numpy() for each in (*of_five(maps), rois, images)], OUTPUT, 18,
        **attributes,
    )  # fmt: skip
    (got,) = run_model(model, [each.numpy() for each in (*of_five(maps), rois, images)])
    expected = multiscale_roi_align(maps, rois, images, BINS, SCALES[:2], 2)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_channels_last_is_kept_with_equal_values():
    maps, (rois, images) = pyramid(4), random_rois(20)
    last = [each.contiguous(memory_format=torch.channels_last) for each in maps]
    plain = multiscale_roi_align(maps, rois, images, 7, SCALES[:4])
    got = multiscale_roi_align(last, rois, images, 7, SCALES[:4])
    assert plain.is_contiguous()
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, plain)


def test_the_operator_is_whole():
    maps, (rois, images) = pyramid(3), random_rois(10)
    for order in (torch.contiguous_format, torch.channels_last):
        given = of_five([each.contiguous(memory_format=order) for each in maps])
        operator = torch.ops.trtyard.multiscale_roi_align.default
        arguments = (*[each.clone(memory_format=order) for each in given], rois, images)
        torch.library.opcheck(operator, (*arguments, *attributes_of(3).values()))


def test_maps_have_torchvisions_gradients():
    maps, (rois, images) = pyramid(4), random_rois(20)
    ours, theirs = ([each.clone().requires_grad_() for each in maps] for _ in range(2))
    pooled = multiscale_roi_align(ours, rois, images, BINS, SCALES[:4], 2)
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(0))
    (pooled * weights).sum().backward()
    (by_torchvision(theirs, rois, images, BINS, 2) * weights).sum().backward()
    for found, expected in zip(ours, theirs):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4)


def test_maps_without_rois_have_gradients_of_zeros():
    maps, (rois, images) = pyramid(2), random_rois(9)
    maps = [each.requires_grad_() for each in maps]
    padding = torch.full_like(images, -1)
    multiscale_roi_align(maps, rois, padding, BINS, SCALES[:2]).sum().backward()
    assert all(torch.equal(each.grad, torch.zeros_like(each)) for each in maps)


class Pooled(torch.nn.Module):
    """Pools the rois of a picture from its maps, of which there are two by strides."""

    def forward(self, picture, rois):
        fine = torch.nn.functional.avg_pool2d(picture, 4)
        coarse = torch.nn.functional.avg_pool2d(fine, 2)
        images = torch.zeros(rois.shape[0], dtype=torch.int32)
        return multiscale_roi_align([fine, coarse], rois, images, (7, 5), (1 / 4, 1 / 8), 2)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_both_exporters_write_one_node(exporter, tmp_path):
    picture, (rois, _) = torch.randn(1, 3, 128, 160), random_rois(12)
    module, file = Pooled().eval(), tmp_path / "model.onnx"
    exported = export_onnx(
        module, (picture, rois), ("picture", "rois"), ("pooled",), exporter, 18, file
    )
    assert exported.custom_ops == exported.functions == (OP.op_type,)
    model = onnx.load(file)
    (node,) = [node for node in model.graph.node if node.domain == DOMAIN]
    assert len(node.input) == 7
    shape = [size.dim_value for size in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [12, 3, 7, 5]
    (got,) = run_model(model, [picture.numpy(), rois.numpy()])
    np.testing.assert_allclose(got, module(picture, rois).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spatial_scales": (1 / 4,)}, "two to five maps and a scale for each"),
        ({"spatial_scales": (1 / 4, 0.0)}, "positive numbers"),
        ({"spatial_scales": (1 / 4, INF)}, "positive numbers"),
        ({"spatial_scales": (1 / 4, -1 / 8)}, "positive numbers"),
        ({"spatial_scales": (1 / 8, 1 / 4)}, "the finest map's first"),
        ({"canonical_scale": 0}, "must be positive"),
        ({"sampling_ratio": -1}, "must not be negative"),
        ({"output_size": (-1, 2)}, "must not be negative"),
        ({"output_size": (2,)}, "one number or two"),
        ({"output_size": (2, 2, 2)}, "one number or two"),
        (
            {"features": {"0": torch.zeros(1, 2, 4, 4), "1": torch.zeros(1, 2, 2, 2)}},
            "a list of maps",
        ),
        ({"features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)]}, "the same B and C"),
        ({"features": [torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 2, 2)]}, "the same B and C"),
        ({"features": [torch.zeros(1, 2, 4, 4)]}, "two to five maps"),
        ({"features": [torch.zeros(1, 2, n, n).int() for n in (4, 2)]}, "floating-point maps"),
        ({"features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2).half()]}, "one type"),
        ({"rois": torch.zeros(1, 5)}, "rois"),
        ({"batch_indices": torch.zeros(2, dtype=torch.int32)}, "batch indices"),
    ],
)
def test_invalid_arguments_are_refused(changes, words):
    arguments = {
        "features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)],
        "rois": torch.zeros(1, 4),
        "batch_indices": torch.zeros(1, dtype=torch.int32),
        "output_size": 2,
        "spatial_scales": (1 / 4, 1 / 8),
    }
    with pytest.raises(ValueError, match=words):
        multiscale_roi_align(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rois": torch.zeros(1, 5)}, "rois"),
        ({"sampling_ratio": -1}, "must not be negative"),
        ({"aligned": 2}, "must be 0 or 1"),
        ({"batch_indices": torch.zeros(1, dtype=torch.int32, device="meta")}, "one device"),
        ({"features_1": torch.zeros(1, 2, 2, 2, device="meta")}, "one device"),
    ],
)
def test_the_kernel_never_gets_what_the_reference_refuses(changes, words, monkeypatch):
    monkeypatch.setattr(cuda, "library_for", lambda _: object())
    maps = of_five([torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)])
    tensors = (*maps, torch.zeros(1, 4), torch.zeros(1, dtype=torch.int32))
    arguments = {**dict(zip(OP.inputs, tensors)), **attributes_of(2), **changes}
    with pytest.raises(ValueError, match=words):
        cuda.multiscale_roi_align_cuda(*arguments.values())
