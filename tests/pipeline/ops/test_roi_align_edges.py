"""MaskRcnnROIAlign with unusual rois: all forms on the CPU, against each other and torchvision.

The forms are the reference behind the torch operator, the function with RoiAlign in it (opset 16
and 21) and without (22), and the nodes that take the op's place at opset 11.
"""

import numpy as np
import onnx
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import one_node_model, run_model
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions.inline import in_standard_ops
from trtyard.pipeline.ops import roi_align
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.roi_align_op.contract import OP as ROI_ALIGN

INF, NAN = float("inf"), float("nan")
FARTHEST = 2**20  # cells; the README of the op says so
OUTPUT = [(TensorProto.FLOAT, 4)]


def by_reference(features, rois, images, attributes):
    return roi_align(*map(torch.from_numpy, (features, rois, images)), **attributes).numpy()


def by_function(features, rois, images, attributes, opset):
    inputs = [features, rois, images]
    return run_model(
        one_node_model(ROI_ALIGN.op_type, inputs, OUTPUT, opset, **attributes), inputs
    )[0]


def by_nodes(features, rois, images, attributes):
    inputs = dict(zip(ROI_ALIGN.inputs, (features, rois, images)))
    graph = helper.make_graph(
        [
            helper.make_node(
                ROI_ALIGN.op_type, list(inputs), ["pooled"], domain=DOMAIN, **attributes
            )
        ],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in inputs.items()
        ],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [None] * 4)],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = in_standard_ops(helper.make_model(graph, opset_imports=opsets, ir_version=6))
    onnx.checker.check_model(model, full_check=True)
    return run_model(model, list(inputs.values()))[0]


def by_all(features, rois, images=None, **changes):
    """Return what all forms agree on."""
    features, rois = np.float32(features), np.float32(rois).reshape(-1, 4)
    images = np.zeros(len(rois), np.int32) if images is None else np.int32(images)
    attributes = {
        "output_height": 2,
        "output_width": 3,
        "spatial_scale": 1.0,
        "sampling_ratio": 0,
        "aligned": 0,
        "mode": 0,
        **changes,
    }
    arguments = features, rois, images, attributes
    expected = by_reference(*arguments)
    assert np.isfinite(expected).all()
    for form in (
        *(by_function(*arguments, opset) for opset in (16, 21, 22)),
        by_nodes(*arguments),
    ):
        np.testing.assert_allclose(form, expected, rtol=1e-4, atol=1e-5)
    return expected


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def torchvision_in_double(features, rois, images, bins, scale, sampling, aligned):
    rows = torch.cat([torch.from_numpy(np.float64(images))[:, None], torch.from_numpy(rois)], 1)
    return torchvision.ops.roi_align(
        torch.from_numpy(features).double(), rows.double(), bins, scale, sampling or -1, aligned
    ).numpy()


@pytest.mark.parametrize("mode", [0, 1])
def test_inverted_aligned_roi_has_no_adaptive_samples(mode):
    rois = [[9, 2, 3, 8], [3, 8, 9, 2], [9, 8, 3, 2], [4, 4, 4, 9], [3, 2, 9, 8]]
    pooled = by_all(maps(1, 2, 12, 12), rois, aligned=1, mode=mode)
    assert [bool(each.any()) for each in pooled] == [False] * 4 + [True]


@pytest.mark.parametrize("aligned", [0, 1])
def test_inverted_roi_with_fixed_samples_runs_backwards(aligned):
    features, rois = maps(1, 2, 12, 12), np.float32([[9, 2, 3, 8], [3, 8, 9, 2], [9, 8, 3, 2]])
    pooled = by_all(features, rois, aligned=aligned, sampling_ratio=2)
    expected = torchvision_in_double(features, rois, np.zeros(3), (2, 3), 1.0, 2, bool(aligned))
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("mode", [0, 1])
def test_rois_beyond_float32_precision_are_padding(mode, sampling):
    rois = [
        [-2e38, -2e38, 2e38, 2e38],
        [0, 0, 3.4e38, 5],
        [1e30, 0, 2e30, 5],
        [0, 0, FARTHEST, 5],
        [0, 0, 5, -FARTHEST],
        [0, 0, INF, 5],
        [-INF, -INF, INF, INF],
        [0, NAN, 5, 5],
        [0, 0, 5, 5],
    ]
    for scale in (1.0, -1.0):
        pooled = by_all(
            maps(1, 2, 12, 12), rois, mode=mode, sampling_ratio=sampling, spatial_scale=scale
        )
        assert [bool(each.any()) for each in pooled] == [False] * 8 + [True]


def test_farthest_supported_corners_are_pooled():
    features = maps(1, 2, 12, 12)
    near = float(FARTHEST) - 0.5
    rois = [[-near, -near, near, near], [-FARTHEST, -near, near, near]]
    # One sample in the middle, at the map's first cell.
    pooled = by_all(features, rois, output_height=1, output_width=1, sampling_ratio=1)
    np.testing.assert_allclose(pooled[0].ravel(), features[0, :, 0, 0], rtol=1e-5)
    assert not pooled[1].any()


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e-45, 0.0])
def test_padding_is_zero_for_any_scale(scale):
    features = np.ones((2, 2, 5, 5), np.float32)
    pooled = by_all(
        features, [[1, 1, 5, 5]] * 4, [-1, 2, -7, 1], spatial_scale=scale, sampling_ratio=1
    )
    assert not pooled[:3].any()
    assert (pooled[3] == 1).all()


def test_padding_is_zero_with_non_finite_cells():
    features = np.ones((1, 1, 5, 5), np.float32)
    features[0, 0, 0, 0] = NAN
    rois, images = np.float32([[1, 1, 5, 5]] * 2), np.int32([-1, 3])
    attributes = {
        "output_height": 2,
        "output_width": 2,
        "spatial_scale": 1.0,
        "sampling_ratio": 1,
        "aligned": 0,
    }
    forms = [by_function(features, rois, images, attributes, opset) for opset in (16, 22)]
    forms += [by_reference(features, rois, images, attributes)]
    assert not any(form.any() for form in forms)


@pytest.mark.parametrize(
    "shape", [(0, 2, 5, 5), (1, 2, 0, 5), (1, 2, 5, 0), (0, 2, 0, 0), (1, 0, 5, 5)]
)
def test_maps_without_a_cell_give_zeros(shape):
    for mode in (0, 1):
        pooled = by_all(np.zeros(shape), [[0, 0, 5, 5], [-1, -1, 3, 3], [9, 9, 9, 9]], mode=mode)
        assert pooled.shape == (3, shape[1], 2, 3)
        assert not pooled.any()


def test_no_rois_and_no_bins_give_nothing():
    assert by_all(maps(1, 2, 5, 5), []).shape == (0, 2, 2, 3)
    assert by_all(maps(1, 2, 5, 5), [[0, 0, 5, 5]], output_height=0).shape == (1, 2, 0, 3)
    assert by_all(maps(1, 2, 5, 5), [[0, 0, 5, 5]], output_width=0).shape == (1, 2, 2, 0)


def exact_mean(features, roi, bins, aligned):
    """The mean by the matrices of both axes, which torchvision computes of maps of one axis."""
    matrices = []
    shift = 0.5 * aligned
    for axis, size in enumerate(features.shape[1:]):
        low, high = roi[1 - axis], roi[3 - axis]
        cells = torch.eye(size, dtype=torch.float64).view(1, size, size, 1)
        row = torch.tensor([[0, shift, low, shift + 1, high]], dtype=torch.float64)
        one = torchvision.ops.roi_align(cells, row, (bins[axis], 1), 1.0, -1, bool(aligned))
        matrices.append(one[0, :, :, 0].numpy().T)
    return matrices[0] @ np.float64(features) @ matrices[1].T


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize(
    "roi",
    [
        [0, 0, 20_000, 20_000],
        [-10_000, -9_000, 10_000, 11_000],
        [3, 2, 15_000, 9],
        [-200_000.0, 1, 700_000.0, 30],
        [1, -20_000, 30, 24_000],
    ],
)
def test_a_roi_much_larger_than_the_map_is_pooled_exactly(roi, aligned):
    features = maps(1, 3, 40, 50)
    for bins in ((7, 7), (1, 1), (3, 14)):
        pooled = by_all(
            features, [roi], output_height=bins[0], output_width=bins[1], aligned=aligned
        )
        expected = exact_mean(features[0], roi, bins, aligned)
        # At 700,000 cells float32 has steps of a sixteenth.
        largest = np.abs(expected).max()
        np.testing.assert_allclose(pooled[0], expected, rtol=0, atol=2e-2 * largest)


def test_max_of_an_oversized_roi_is_the_maps_max():
    features = maps(1, 3, 40, 50)
    features[0, 2] -= 10  # nothing but the samples outside is zero
    pooled = by_all(
        features, [[-10_000, -10_000, 10_000, 10_000]], output_height=1, output_width=1, mode=1
    )
    assert pooled[0, 2] == 0
    # A sample's heaviest corner weighs a quarter or more.
    assert (pooled[0, :2, 0, 0] >= 0.25 * features[0, :2].max(axis=(1, 2))).all()


NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 3.0, 7.5, -20.0, 50.0, 199.99, 1e3, -1e3, 2e4, -2e4, 1e6, -1e6, 1048575.0,
    1048576.0, 1e9, -1e9, 1e30, 2e38, -2e38, INF, -INF, NAN, 1e-30, 1e-45,
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(0, 2),
    cells=st.sampled_from([(13, 17), (1, 1), (3, 40), (0, 5)]),
    count=st.integers(0, 12),
    bins=st.sampled_from([(1, 1), (7, 7), (2, 3), (1, 14)]),
    scale=st.sampled_from([1 / 16, 1.0, 0.25, 1e-38, 0.0, -1.0, 1e5, 3e38]),
    sampling=st.integers(0, 3),
    aligned=st.integers(0, 1),
    mode=st.integers(0, 1),
)
@pytest.mark.slow
def test_all_forms_agree_on_any_rois(
    seed, batch, cells, count, bins, scale, sampling, aligned, mode
):
    generator = np.random.default_rng(seed)
    rois = generator.choice(np.float32(NUMBERS), size=(count, 4))
    usual = generator.random(count) < 0.4
    rois[usual] = generator.uniform(-30, 400, (np.count_nonzero(usual), 4))
    by_all(
        maps(batch, 2, *cells, seed=seed),
        rois,
        generator.integers(-2, batch + 2, count),
        output_height=bins[0],
        output_width=bins[1],
        spatial_scale=scale,
        sampling_ratio=sampling,
        aligned=aligned,
        mode=mode,
    )


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
def test_usual_and_large_rois_agree_with_torchvision_in_double(sampling, aligned):
    generator = np.random.default_rng(sampling)
    features = maps(2, 3, 30, 20)
    corner, size = generator.uniform(-60, 120, (40, 2)), generator.uniform(0, 900, (40, 2)) ** 0.8
    rois = np.concatenate([corner, corner + size], 1).astype(np.float32)
    images = generator.integers(0, 2, 40)
    pooled = by_all(
        features, rois, images, output_height=5, output_width=4, spatial_scale=0.5,
        sampling_ratio=sampling, aligned=aligned,
    )  # fmt: skip
    expected = torchvision_in_double(features, rois, images, (5, 4), 0.5, sampling, bool(aligned))
    np.testing.assert_allclose(pooled, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output_height": -1}, "must not be negative"),
        ({"output_width": -1}, "must not be negative"),
        ({"sampling_ratio": -1}, "must not be negative"),
        ({"aligned": 2}, "must be 0 or 1"),
        ({"mode": 2}, "must be 0 or 1"),
        ({"spatial_scale": NAN}, "must be finite"),
        ({"spatial_scale": 1e39}, "must be finite"),
    ],
)
def test_invalid_attributes_are_refused(changes, words):
    attributes = {
        "output_height": 2,
        "output_width": 2,
        "spatial_scale": 1.0,
        "sampling_ratio": 2,
        "aligned": 0,
    }
    rois, images = np.zeros((1, 4), np.float32), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match=words):
        by_reference(maps(1, 1, 4, 4), rois, images, {**attributes, **changes})


@pytest.mark.parametrize("shapes", [((1, 1, 4), (1, 4), (1,)), ((1, 1, 4, 4), (1, 5), (1,)),
                                    ((1, 1, 4, 4), (2, 4), (1,))])  # fmt: skip
def test_mismatched_shapes_are_refused(shapes):
    features, rois, images = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="takes features"):
        roi_align(features, rois, images.int(), 2, 2, 1.0, 2, 0)
